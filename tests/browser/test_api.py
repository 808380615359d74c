"""Use of the demo through its API: the page's limits apply, and no route reads the disk."""

import base64
import io
import json
import random
import time
from concurrent.futures import FIRST_COMPLETED, wait
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

import countgen
from countgen.app.demo import example
from countgen.app.demo.page import build, launch
from countgen.images import read_recipe
from tests.browser.conftest import LIMITS, served
from tests.browser.paths import HOSTILE_PATHS

pytestmark = [
    # Gradio's own use of pandas, and loops that its server threads leave to the garbage collector.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:gradio.*"),
    pytest.mark.filterwarnings("ignore:unclosed event loop:ResourceWarning"),
]
PLAIN = {"prompt": "one apple", "backbone": "miniature", "method": "plain", "token": "none", "seed": 0, "seconds": 5}
VIEW = (*PLAIN.values(), "critic", 1, "", "", "", "", "none")
"""The fields of the page's form, whose function keeps a session."""
LONG = PLAIN | {"prompt": "a photo of fifteen strawberries", "method": "auto", "seconds": 20}
LONG_VIEW = (*LONG.values(), *VIEW[len(LONG) :])
LEARNING = {"names": ["apple"], "count": 2, "seconds": 2, "backbone": "miniature"}
SECRETS = (str(Path(countgen.__file__).parents[1]), "Traceback", "site-packages", "/tmp/", "/root/", "/home/")


BEYOND_THE_LIMITS = [
    {"prompt": "a" * 501},
    {"prompt": ""},
    {"prompt": None},
    {"prompt": ["one apple"]},
    {"prompt": "fifty-one apples"},
    {"prompt": "one zebra"},
    {"prompt": "apples"},
    {"backbone": "sdxl-turbo"},
    {"backbone": "../../etc/passwd"},
    {"backbone": 3},
    {"method": "evil"},
    {"method": "token"},
    {"token": "/etc/passwd"},
    {"token": "count-7, learned"},
    {"seed": -2},
    {"until": "both"},
    {"negative_prompt": "dog"},
    {"num_inference_steps": 9},
    {"guidance_scale": 31},
    {"settings": "num_searches=0"},
    {"settings": "search.batch_size=1000000"},
    {"seed": 2**32},
    {"seed": "zero"},
    {"seconds": 7},
    {"seconds": 10**9},
    {"seconds": None},
]


def test_input_beyond_the_limits_is_refused_without_internal_details(subtests: pytest.Subtests, api: Client) -> None:
    for wrong in BEYOND_THE_LIMITS:
        with subtests.test(wrong=wrong):
            with pytest.raises(AppError) as refusal:
                api.predict(**PLAIN | wrong, api_name="/generate")
            assert not any(secret in str(refusal.value) for secret in SECRETS if secret not in str(wrong))


BAD_LEARNING = [
    {"names": []},
    {"names": ["unicorn"]},
    {"names": ["apple"] * 3 + ["../x"]},
    {"count": 0},
    {"count": 51},
    {"seconds": 3},
]


def test_bad_input_for_learning_is_refused(subtests: pytest.Subtests, api: Client) -> None:
    for wrong in BAD_LEARNING:
        with subtests.test(wrong=wrong), pytest.raises(AppError):
            api.predict(**LEARNING | wrong, api_name="/learn")


NO_TOKENS = [None, 7, "no base64!", "A" * (2 * 1024 * 1024 - 4096), base64.b64encode(b"PK\x03\x04" * 40).decode()]


def test_files_other_than_tokens_are_refused(subtests: pytest.Subtests, demo: str) -> None:
    for data in NO_TOKENS:
        with subtests.test(data=str(data)[:40]):
            answer = post(demo, "hand_in_token", [None], {"data": data})
            assert answer.status_code >= 400
            assert not any(secret in answer.text for secret in SECRETS)


def test_a_request_beyond_two_mebibytes_is_not_read(demo: str) -> None:
    assert post(demo, "hand_in_token", [None], {"data": "A" * 3 * 1024 * 1024}).status_code == 413


def post(demo: str, name: str, data: list, event: dict | None = None, session: str = "test") -> httpx.Response:
    body = {"data": data, "session_hash": session, "event_data": event}
    return httpx.post(f"{demo}/gradio_api/run/{name}", json=body, timeout=30)


def test_sessions_do_not_share_images(api: Client) -> None:
    api.predict(*VIEW, api_name="/generate_view")
    _, gallery = api.predict(*VIEW, api_name="/generate_view")
    assert gallery.count("<li>") == 2
    api.reset_session()
    stage, gallery = api.predict(*VIEW, api_name="/generate_view")
    assert gallery.count("<li>") == 1
    assert "The judge counts 1 of 1 apple." in stage
    assert "href='data:image/png;base64," in stage


FREED_WITHIN = 5.0
"""Maximum CPU seconds of this process, in which the server runs: other load on the machine does not count."""


@pytest.mark.parametrize("what", ["generate", "learn"])
@pytest.mark.parametrize("how", ["cancel", "stop"])
def test_cancel_and_stop_free_the_worker(demo: str, api: Client, how: str, what: str) -> None:
    # The time limit is twenty seconds; the next job must start long before.
    leaving = Client(demo, verbose=False)
    if what == "generate":
        job = leaving.submit(*LONG_VIEW, api_name="/generate_view")
    else:
        job = leaving.submit(**LEARNING | {"seconds": 20}, api_name="/learn")
    assert any("<img" in stage for stage, _ in job)  # it is running
    begun = time.process_time()
    if how == "cancel":
        job.cancel()
    else:
        leaving.predict(api_name="/stop")
    following = api.submit(**PLAIN, api_name="/generate")
    next(iter(following))  # the worker runs the next job
    freed = time.process_time() - begun
    print(f"the worker is free {freed:.2f} CPU seconds after {how} of {what}")
    assert freed < FREED_WITHIN
    assert following.result(timeout=15)["finished"]
    leaving.close()


def test_a_closed_page_frees_the_worker(demo: str, api: Client) -> None:
    config = httpx.get(f"{demo}/config").json()
    function = next(one["id"] for one in config["dependencies"] if one["api_name"] == "generate_view")
    asked = {"data": [*LONG_VIEW, None], "fn_index": function, "session_hash": "leaves"}
    httpx.post(f"{demo}/gradio_api/queue/join", json=asked).raise_for_status()
    with httpx.stream("GET", f"{demo}/gradio_api/queue/data", params={"session_hash": "leaves"}, timeout=30) as stream:
        next(line for line in stream.iter_lines() if "process_generating" in line)
    assert api.submit(**PLAIN, api_name="/generate").result(timeout=15)["finished"]


def test_a_full_queue_says_so(demo: str, api: Client) -> None:
    working = Client(demo, verbose=False)
    next(iter(working.submit(*LONG_VIEW, api_name="/generate_view")))
    waiting = [api.submit(**PLAIN, api_name="/generate") for _ in range(LIMITS.max_waiting + 2)]
    first, _ = wait(waiting, timeout=15, return_when=FIRST_COMPLETED)
    assert ["429" in str(job.exception()) for job in first]
    for path in ("queue/join", "call/generate"):
        refused = httpx.post(f"{demo}/gradio_api/{path}", json={})
        assert refused.status_code == 429
    assert refused.json()["detail"].startswith(f"{LIMITS.max_waiting} jobs are in the queue already")
    post(demo, "stop", [None], session=working.session_hash)
    results = [job for job in waiting if job.exception(timeout=30) is None]
    assert len(results) == LIMITS.max_waiting
    working.close()


ROUTES = ("file=", "file/", "proxy=", "static/", "assets/", "custom_component/", "stream/", "run/", "")


def test_a_loopback_server_refuses_other_host_names(demo: str) -> None:
    """Another site must not send requests in the visitor's name by pointing its domain at this server."""
    port = demo.rpartition(":")[2]
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "localhost.", ""):
        assert httpx.get(f"{demo}/config", headers={"Host": host}).status_code == 403, host
    for host in (f"localhost:{port}", f"[::1]:{port}", "127.0.0.1"):
        assert httpx.get(f"{demo}/config", headers={"Host": host}).status_code == 200, host


PARSED = [
    ("seven apples", "7 × apple"),
    ("seven unicorns", "This model can count: "),
    ("fifty-one apples", "from 1 to 50"),
    ("apples", "'seven apples'."),
    ("a thousand apples", "from 1 to 50"),
]


def test_parse_returns_the_targets_or_the_reason_of_a_refusal(subtests: pytest.Subtests, api: Client) -> None:
    for prompt, said in PARSED:
        with subtests.test(prompt=prompt):
            shown = api.predict(prompt, "miniature", api_name="/parse")
            assert said in shown
            assert "--count" not in shown


def test_no_path_reads_the_disk(demo: str, runs: Path) -> None:
    """Request forty paths and a thousand recombinations of their parts through every route that takes a path."""
    paths = [*HOSTILE_PATHS, str(runs.parent / "secret" / "records.jsonl"), str(runs / "first" / "settings.json")]
    dice = random.Random(7)
    pieces = [piece for path in HOSTILE_PATHS for piece in path.split("/") if piece not in ("", "config")] + [
        "..",
        "%2e%2e",
        "\\",
        "",
    ]
    paths += ["/".join(dice.choices(pieces, k=dice.randint(1, 7))) for _ in range(1000)]
    assert len(HOSTILE_PATHS) >= 40
    with httpx.Client(base_url=demo, timeout=30) as web:
        for number, path in enumerate(paths):
            route = "file=" if number < len(HOSTILE_PATHS) else ROUTES[number % len(ROUTES)]
            prefix = "/" if route in ("static/", "assets/", "") else "/gradio_api/"
            for kept in ("/%\\.:", "/%", "") if number < len(HOSTILE_PATHS) else ("/%",):
                answer = web.get(f"{prefix}{route}{quote(path, safe=kept)}")
                harmless = answer.status_code in (404, 405, 307, 403, 422) or is_the_page_itself(answer)
                assert harmless, (route, path, answer.status_code, answer.text[:200])
                assert "root:" not in answer.text
                assert "judge_counts" not in answer.text


def is_the_page_itself(answer: httpx.Response) -> bool:
    """Return whether the response is the page itself, for paths that resolve to the root."""
    return answer.url.path in ("/", "") and "gradio_config" in answer.text


def test_gradios_own_file_routes_are_closed(demo: str) -> None:
    assert httpx.post(f"{demo}/gradio_api/upload", files={"files": b"x"}).status_code == 404
    for path in (
        "/gradio_api/file=README.md",
        "/gradio_api/proxy=http://127.0.0.1/",
        "/monitoring",
        "/docs",
        "/gradio_api/runs",
    ):
        assert httpx.get(demo + path).status_code == 404, path


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
    png = base64.b64decode(made["image"])
    assert read_recipe(io.BytesIO(png)) == made["recipe"]
    counted = api.predict(made["image"], "apples", "miniature-fcos", api_name="/count")
    assert counted["counts"] == made["judge_counts"]
    edited = api.predict(made["image"], "apple=3", api_name="/edit")
    assert edited["recipe"]["prompt"] == "three apples"
    assert edited["targets"] == [{"object_name": "apple", "target_count": 3}]
    assert edited["finished"]


BAD_CALLS = [
    ("count", ["no image", "apple", "nanodet"]),
    ("count", [None, "apple", "nanodet"]),
    ("count", ["PNG", "unicorn", "nanodet"]),
    ("count", ["PNG", "", "nanodet"]),
    ("count", ["PNG", "cat, kitten", "nanodet"]),
    ("count", ["PNG", "apple", "yolo:/etc/passwd"]),
    ("edit", ["PNG", "dog=3"]),
    ("edit", ["PNG", "apple"]),
    ("edit", ["PNG", "apple=99"]),
    ("edit", ["PNG", "apple=3", 7]),
    ("edit", ["no image", "apple=3"]),
    ("edit", [["PNG"], "apple=3"]),
]


def test_bad_calls_are_refused_without_internal_details(subtests: pytest.Subtests, api: Client) -> None:
    image = base64.b64encode(example.load().png).decode()
    for name, data in BAD_CALLS:
        with subtests.test(name=name, data=data):
            with pytest.raises(AppError) as refusal:
                api.predict(*(image if value == "PNG" else value for value in data), api_name=f"/{name}")
            assert not any(secret in str(refusal.value) for secret in SECRETS if secret not in str(data))


UNLISTED = ["../secret", "first/../../secret", "/etc", "", ".", "to-label/..", None, ["first"], 3]


def test_only_listed_runs_can_be_opened(subtests: pytest.Subtests, api: Client) -> None:
    for name in UNLISTED:
        with subtests.test(name=name):
            for asked in (
                {"run": name, "api_name": "/open_run"},
                {"run": name, "name": "Ada", "api_name": "/start_labelling"},
            ):
                with pytest.raises(AppError) as refusal:
                    api.predict(**asked)
                assert not any(secret in str(refusal.value) for secret in SECRETS)


@pytest.mark.parametrize("name", ["generate", "edit", "count", "generate_view", "learn", "open_run", "save_label"])
def test_the_queue_cannot_be_bypassed(demo: str, name: str) -> None:
    assert post(demo, name, []).status_code == 404


def test_the_served_page_contains_no_path(demo: str) -> None:
    for path in ("/", "/config", "/gradio_api/info", "/theme.css"):
        text = httpx.get(demo + path).raise_for_status().text
        assert not any(secret in text for secret in SECRETS), path


def test_with_a_password_nothing_is_served_without_login(models: countgen.Models) -> None:
    with served(models, auth=("ada", "lovelace")) as url:
        for path in ("/config", "/gradio_api/info"):
            assert httpx.get(url + path).status_code == 401, path
        assert post(url, "parse", ["one apple", "miniature"]).status_code == 401
        with httpx.Client(base_url=url) as visitor:
            assert visitor.post("/login", data={"username": "ada", "password": "wrong"}).status_code == 400
            assert visitor.post("/login", data={"username": "ada", "password": "lovelace"}).status_code == 200
            assert visitor.get("/config").status_code == 200


def test_a_public_link_without_a_password_is_refused() -> None:
    with pytest.raises(ValueError, match="need a user and a password"):
        launch(build(LIMITS), share=True)
