"""Use of the demo by programs: the page's limits apply, jobs take turns, and a caller who leaves frees the models."""

import base64
import subprocess
import time
from dataclasses import astuple
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

import countgen
from countgen.app.demo.form import GenerateForm
from countgen.app.demo.jobs import EXAMPLE_FILE
from countgen.images import read_recipe
from tests.docs.test_documents import DOCUMENTS, FENCE

DOCUMENTED = "http://127.0.0.1:7860"
PLAIN = {"prompt": "one apple", "backbone": "miniature", "method": "plain", "token": "none", "seed": 0, "seconds": 5}
LONG = PLAIN | {"prompt": "a photo of sixteen strawberries", "method": "auto", "seconds": 20}
SECRETS = (str(Path(countgen.__file__).parents[1]), "Traceback", "site-packages", "/tmp/", "/root/", "/home/")
FREED_WITHIN = 5.0
"""Maximum CPU seconds of this process, in which the server runs: other load on the machine does not count."""

IMAGE = base64.b64encode(EXAMPLE_FILE.read_bytes()).decode()
BEYOND_THE_LIMITS: dict[str, list[object]] = {
    "prompt": ["a" * 501, "", None, ["one apple"], "fifty-one apples", "one zebra", "apples"],
    "backbone": ["sdxl-turbo", "../../etc/passwd", 3],
    "token": ["/etc/passwd", "0" * 64, ["a"]],
    "seed": [2**32, "zero"],
    "settings": ["min_seeds=0", "search.batch_size=1000000"],
    "seconds": [7, 10**9, None],
    "method": ["AUTO", None],
    "num_inference_steps": [-1, 9, 1.5, True, "many"],
    "guidance_scale": [-1, 31, "high", True],
    "negative_prompt": ["dog"],  # the model is sampled without guidance
}
BAD_IMAGES = [[image, "apple=3"] for image in ("no image", None, ["PNG"], "A" * (2**20 + 2**19))]
BAD_CALLS: dict[str, list[list[object]]] = {
    "count": [
        *([IMAGE, names] for names in ("", "unicorn", "cat, kitten", "person,bus,car,dog,cat,bird,horse,sheep,cow")),
        [IMAGE, "apple", "yolo:/etc/passwd"],
    ],
    "edit": [[IMAGE, "dog=3"], [IMAGE, "apple"], [IMAGE, "apple=99"], [IMAGE, "apple=3", 7]],
}


def test_the_examples_of_the_document_work(demo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = [block for block in FENCE.finditer(DOCUMENTS["docs/demo.md"]) if DOCUMENTED in block["text"]]
    assert [block["language"] for block in blocks] == ["python", "sh"]
    python, shell = (block["text"].replace(DOCUMENTED, demo) for block in blocks)
    names: dict[str, Any] = {}
    exec(compile(python, "docs/demo.md", "exec"), names)  # the client's thread ends with the process
    made, edited = names["made"], names["edited"]
    assert (made["seed"], made["judge_counts"], made["judge"]) == (5, {"apple": 3}, "miniature-fcos")
    assert len(made["boxes"]["apple"]) == 3
    assert read_recipe(tmp_path / "apples.png") == made["recipe"]
    assert edited["recipe"]["prompt"] == "a photo of four apples"
    assert edited["targets"] == [{"object_name": "apple", "target_count": 4}]
    assert names["counted"]["counts"] == edited["judge_counts"]
    said = subprocess.run(["bash", "-ec", shell], capture_output=True, text=True, timeout=120, check=True).stdout
    assert (tmp_path / "events.txt").read_text().count("event: complete") == 1
    assert "event: complete" in said
    assert '"counts": {"apple": 3}' in said


def test_input_beyond_the_limits_is_refused_without_internal_details(subtests: pytest.Subtests, api: Client) -> None:
    calls: list[tuple[str, list, dict]] = [
        ("generate", [], PLAIN | {name: value}) for name, values in BEYOND_THE_LIMITS.items() for value in values
    ]
    calls += [(name, data, {}) for name, rows in BAD_CALLS.items() for data in (*rows, *BAD_IMAGES)]
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
