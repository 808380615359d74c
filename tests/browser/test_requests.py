"""No request makes the demo fetch a URL or open a path, and requests from other origins are refused."""

import gc
import logging
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import httpx
import pytest
import torch

from countgen.app.demo.checked_app import CheckedBlocks
from countgen.app.demo.page import build, launch
from countgen.tokens.file import CountToken, encoded
from tests.browser.conftest import LIMITS
from tests.browser.listener import Listener, files, listening

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:gradio.*"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
FIELDS = (gr.Textbox, gr.Slider, gr.Image, gr.Gallery, gr.File, gr.JSON, gr.HTML, gr.State, gr.Dropdown, gr.Button)
SHARES = 19
"""Each function gets every nineteenth value; of another form each time, because there are twenty forms."""
TOO_WIDE = 8000
"""Wider than any text encoder; 32 such vectors make a token file of 1 MiB."""


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    with listening() as found:
        yield found


@pytest.fixture(scope="module")
def web(demo: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=demo, timeout=30) as client:
        yield client


def fields(blocks: type[gr.Blocks]) -> gr.Blocks:
    """Return a page with one function for each component."""
    with blocks(analytics_enabled=False) as page:
        for kind in FIELDS:
            field = kind()
            gr.Button().click(lambda value: value, field, gr.JSON(), queue=False, api_name=kind.__name__.lower())
    return page


def test_an_unchecked_page_does_fetch_the_listener(listener: Listener) -> None:
    page = fields(gr.Blocks)
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, run_history=False)
    body = {"data": [{"path": f"{listener.address}/heard", "meta": {"_type": "gradio.FileData"}}]}
    httpx.post(f"{url}gradio_api/run/textbox", json=body, timeout=30)
    page.close(verbose=False)
    assert listener.called == ["/heard"]
    listener.called.clear()


def test_no_component_fetches_an_address(listener: Listener, tmp_path: Path) -> None:
    """The page's own check refuses URLs, independent of the middleware."""
    page = fields(CheckedBlocks)
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, run_history=False)
    with httpx.Client(base_url=url, timeout=30) as client:
        for kind in FIELDS:
            for value in files(listener.address, str(tmp_path))[::7]:
                answer = client.post(f"/gradio_api/run/{kind.__name__.lower()}", json={"data": [value]})
                assert answer.status_code == 500, (kind, value)
                assert "no file, address" in answer.json()["error"] or kind is gr.State, (kind, value)
    page.close(verbose=False)
    assert listener.called == []


def test_no_function_of_the_demo_fetches_an_address(
    web: httpx.Client, listener: Listener, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    values = files(listener.address, str(tmp_path))
    functions = web.get("/config").json()["dependencies"]
    assert len(functions) >= SHARES, "every value is sent to a function"
    for number, function in enumerate(functions):
        for value in values[number % SHARES :: SHARES]:
            data = [value] * max(1, len(function["inputs"]))
            body = {"data": data, "fn_index": function["id"], "session_hash": "files"}
            name = function["api_name"]
            for route in ("queue/join", f"run/{name}", f"call/{name}", f"call/v2/{name}", f"api/{name}"):
                answer = web.post(f"/gradio_api/{route}", json=body)
                checked = route.startswith(("queue", "run", "call"))
                assert answer.status_code == (400 if checked else 404), (route, value)
            body = body | {"data": [None] * len(data), "event_data": {"data": value}}
            assert web.post("/gradio_api/queue/join", json=body).status_code == 400, value
    assert listener.called == []


def test_no_route_accepts_an_upload(subtests: pytest.Subtests, web: httpx.Client) -> None:
    for path in ["upload", "upload?upload_id=a", "component_server", "stream/a", "process_recording"]:
        with subtests.test(path=path):
            assert web.post(f"/gradio_api/{path}", files={"files": b"x"}).status_code == 404
            for open_one in ("queue/join", "run/parse", "call/count", "cancel"):
                assert web.post(f"/gradio_api/{open_one}", files={"files": b"x"}).status_code == 415
            assert web.post("/config", files={"files": b"x"}).status_code == 405
            assert web.post("/login", files={"username": b"x" * 9000}).status_code == 413


FOREIGN = (
    "https://evil.example",
    "http://127.0.0.1:1",
    "http://localhost",
    "http://127.0.0.1.evil.example",
    "null",
    "x",
)


@pytest.mark.parametrize("origin", FOREIGN)
def test_requests_from_another_origin_are_refused(web: httpx.Client, origin: str) -> None:
    body = {"data": ["one apple", "miniature"]}
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    for answer in (
        web.post("/gradio_api/run/parse", json=body, headers={"Origin": origin}),
        web.post("/login", data={"username": "a", "password": "b"}, headers={"Origin": origin}),
        web.get("/config", headers={"Origin": origin}),
        web.options("/gradio_api/run/parse", headers=asked),
    ):
        assert answer.status_code == 403
        assert not any(name.startswith("access-control-") for name in answer.headers)


def test_the_own_origin_is_accepted_without_cors_headers(web: httpx.Client, demo: str) -> None:
    for headers in ({}, {"Origin": demo}):
        answer = web.post("/gradio_api/run/parse", json={"data": ["one apple", "miniature"]}, headers=headers)
        assert answer.status_code == 200
        assert not any(name.startswith("access-control-") for name in answer.headers)


def test_other_content_types_than_json_are_refused(web: httpx.Client) -> None:
    """Browsers send a preflight request before cross-origin JSON, but not before plain text."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "", "application/json-x"):
        answer = web.post("/gradio_api/run/parse", content=b'{"data": []}', headers={"Content-Type": kind})
        assert answer.status_code == 415, kind


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("queue/join", {"data": [], "fn_index": 999, "session_hash": "bad"}, 404),
        ("queue/join", {"data": [], "fn_index": -1, "session_hash": "bad"}, 400),
        ("run/nothing", {"data": []}, 404),
        ("run/parse", {"data": [], "fn_index": 10**9}, 404),
        ("run/parse", {"data": ["one apple"]}, 422),
        ("run/parse", {"data": ["one apple", "no such model"]}, 422),
        ("run/hand_in_token", {"data": [None], "event_data": {"data": "no token"}}, 422),
    ],
)
def test_a_bad_call_is_refused_with_one_line_in_the_log(
    web: httpx.Client,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    path: str,
    body: dict,
    status: int,
) -> None:
    caplog.set_level(logging.WARNING)
    assert web.post(f"/gradio_api/{path}", json=body).status_code == status
    assert len(caplog.records) == 1
    assert "\n" not in caplog.records[0].getMessage()
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_bad_call_through_the_queue_leaves_no_traceback(
    web: httpx.Client, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.WARNING)
    function = next(
        one["id"] for one in web.get("/config").json()["dependencies"] if one["api_name"] == "generate_view"
    )
    web.post("/gradio_api/queue/join", json={"data": ["one apple"], "fn_index": function, "session_hash": "bad"})
    with web.stream("GET", "/gradio_api/queue/data", params={"session_hash": "bad"}) as stream:
        assert any("do not fit this function" in text for text in stream.iter_lines())
    with web.stream("GET", "/gradio_api/queue/data", params={"session_hash": "nobody"}) as stream:
        assert "session_not_found" in stream.read().decode()
    assert [record.getMessage().split()[0] for record in caplog.records] == ["refused", "failed"]
    assert "Traceback" not in "".join(capfd.readouterr())


def test_the_total_size_of_uploaded_tokens_is_bounded(web: httpx.Client) -> None:
    import base64

    token = CountToken(
        "<count-5>", 5, {"clip_l": torch.ones(32, TOO_WIDE)}, "miniature", None, ("apple",), "x", "x", None, "MIT"
    )
    data = base64.b64encode(encoded(token)).decode()
    for visitor in range(30):
        body = {"data": [None], "session_hash": f"uploads{visitor}", "event_data": {"data": data}}
        assert web.post("/gradio_api/run/hand_in_token", json=body).status_code == 200
    del token
    gc.collect()
    kept = [one for one in gc.get_objects() if type(one) is CountToken and one.encoder_dims.get("clip_l") == TOO_WIDE]
    assert 0 < len(kept) <= LIMITS.max_uploaded_bytes // 2**20 + 1


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "127.0.0.2", ""])
def test_an_address_that_other_machines_can_reach_needs_a_password(host: str) -> None:
    with pytest.raises(ValueError, match="need a user and a password"):
        launch(build(LIMITS), host=host)
