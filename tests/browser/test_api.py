"""Use of the demo by programs: the page's limits apply, jobs take turns, and a caller who leaves frees the models."""

import base64
import io
import json
import re
import time
from dataclasses import astuple
from pathlib import Path

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

import countgen
from countgen.app.demo.form import GenerateForm
from countgen.app.demo.jobs import EXAMPLE_FILE
from countgen.images import read_recipe
from tests.browser.conftest import LIMITS

pytestmark = [
    # Gradio's own use of pandas, and loops that its server threads leave to the garbage collector.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:gradio.*"),
    pytest.mark.filterwarnings("ignore:unclosed event loop:ResourceWarning"),
]
PLAIN = {"prompt": "one apple", "backbone": "miniature", "method": "plain", "token": "none", "seed": 0, "seconds": 5}
LONG = PLAIN | {"prompt": "a photo of sixteen strawberries", "method": "auto", "seconds": 20}
SECRETS = (str(Path(countgen.__file__).parents[1]), "Traceback", "site-packages", "/tmp/", "/root/", "/home/")
FREED_WITHIN = 5.0
"""Maximum CPU seconds of this process, in which the server runs: other load on the machine does not count."""

BEYOND_THE_LIMITS: dict[str, list[object]] = {
    "prompt": ["a" * 501, "", None, ["one apple"], "fifty-one apples", "one zebra", "apples"],
    "backbone": ["sdxl-turbo", "../../etc/passwd", 3],
    "method": ["evil"],
    "token": ["/etc/passwd", "0" * 64],
    "seed": [-2, 2**32, "zero"],
    "until": ["both"],
    "negative_prompt": ["dog"],
    "num_inference_steps": [9],
    "guidance_scale": [31],
    "settings": ["min_seeds=0", "search.batch_size=1000000"],
    "seconds": [7, 10**9, None],
}
BAD_IMAGES = ("no image", None, ["PNG"], "A" * (2**20 + 2**19))
BAD_CALLS: dict[str, list[list[object]]] = {
    "count": [["PNG", "unicorn"], ["PNG", ""], ["PNG", "cat, kitten"], ["PNG", "apple", "yolo:/etc/passwd"]],
    "edit": [["PNG", "dog=3"], ["PNG", "apple"], ["PNG", "apple=99"], ["PNG", "apple=3", 7]],
}


def call(demo: str, name: str, data: list) -> dict:
    """Call a function as curl would: join the queue, then read its events."""
    event = httpx.post(f"{demo}/gradio_api/call/{name}", json={"data": data}).raise_for_status().json()["event_id"]
    text = httpx.get(f"{demo}/gradio_api/call/{name}/{event}", timeout=60).raise_for_status().text
    last = text.strip().split("\n\n")[-1]
    assert last.startswith("event: complete"), text[:300]
    return json.loads(last.partition("data: ")[2])[0]


def test_programs_get_image_and_json_without_a_session(demo: str, api: Client) -> None:
    made = call(demo, "generate", ["two apples", "miniature", "search", "none", 3])
    assert (made["seed"], made["judge_counts"], made["judge"]) == (3, {"apple": 2}, "miniature-fcos")
    assert len(made["boxes"]["apple"]) == 2
    assert read_recipe(io.BytesIO(base64.b64decode(made["image"]))) == made["recipe"]
    counted = api.predict(made["image"], "apples", "miniature-fcos", api_name="/count")
    assert counted["counts"] == made["judge_counts"]
    edited = api.predict(made["image"], "apple=3", api_name="/edit")
    assert edited["recipe"]["prompt"] == "three apples"
    assert edited["targets"] == [{"object_name": "apple", "target_count": 3}]
    assert edited["finished"]


def test_input_beyond_the_limits_is_refused_without_internal_details(subtests: pytest.Subtests, api: Client) -> None:
    image = base64.b64encode(EXAMPLE_FILE.read_bytes()).decode()
    calls: list[tuple[str, list, dict]] = [
        ("generate", [], PLAIN | {name: value}) for name, values in BEYOND_THE_LIMITS.items() for value in values
    ]
    for name, rows in BAD_CALLS.items():
        rows = [*rows, *([bad, "apple=3"] for bad in BAD_IMAGES)]
        calls += [(name, [image if value == "PNG" else value for value in data], {}) for data in rows]
    for name, data, named in calls:
        with subtests.test(name=name, data=str(data)[-60:], named=named):
            with pytest.raises(AppError) as refusal:
                api.predict(*data, **named, api_name=f"/{name}")
            assert not any(secret in str(refusal.value) for secret in SECRETS if secret not in str((data, named)))


def test_a_cancelled_job_frees_the_models(demo: str, api: Client) -> None:
    # The time limit is twenty seconds; the next job must start long before.
    leaving = Client(demo, verbose=False)
    job = leaving.submit(**LONG, api_name="/generate")
    next(iter(job))  # it is running
    begun = time.process_time()
    job.cancel()
    assert api.predict(**PLAIN, api_name="/generate")["finished"]
    assert time.process_time() - begun < FREED_WITHIN
    leaving.close()


def test_a_closed_page_frees_the_models(demo: str, api: Client) -> None:
    functions = httpx.get(f"{demo}/config").json()["dependencies"]
    function = next(one["id"] for one in functions if one["api_name"] == "generate_1")
    form = (*astuple(GenerateForm(**LONG)), None)
    asked = {"data": form, "fn_index": function, "session_hash": "leaves"}
    httpx.post(f"{demo}/gradio_api/queue/join", json=asked).raise_for_status()
    with httpx.stream("GET", f"{demo}/gradio_api/queue/data", params={"session_hash": "leaves"}, timeout=30) as stream:
        next(line for line in stream.iter_lines() if "process_generating" in line)
    assert api.submit(**PLAIN, api_name="/generate").result(timeout=15)["finished"]


def test_one_client_cannot_fill_the_queue(demo: str, api: Client) -> None:
    working = Client(demo, verbose=False)
    long = working.submit(**LONG, api_name="/generate")
    next(iter(long))
    waiting = [api.submit(**PLAIN, api_name="/generate") for _ in range(LIMITS.max_jobs_of_client - 1)]
    told = next(iter(waiting[-1]))["waiting"]
    assert re.match(r"Waiting: \d jobs? with \d images? before yours, at most \d+ s\.", told)
    with pytest.raises(AppError, match="4 jobs of your address"):
        api.predict(**PLAIN, api_name="/generate")
    long.cancel()
    assert all(job.result(timeout=30)["finished"] for job in waiting)
    working.close()
