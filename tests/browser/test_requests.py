"""Hostile requests: no address is fetched, no path opened, nothing is answered before login or to other origins."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

import countgen
from countgen.app.demo import security
from tests.browser.conftest import served
from tests.browser.listener import files, listening

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
SHARES = 12
"""Each function gets every twelfth value; of another form each time, because there are thirteen forms."""


@pytest.fixture(scope="module")
def listener() -> Iterator[tuple[str, list[bytes]]]:
    with listening() as address_and_calls:
        yield address_and_calls


@pytest.fixture(scope="module")
def web(demo: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=demo, timeout=30) as client:
        yield client


def joined(web: httpx.Client, body: dict) -> str:
    """Join the queue and return the events of the call, or the text of the refusal."""
    answer = web.post("/gradio_api/queue/join", json=body)
    if answer.status_code != 200:
        assert 400 <= answer.status_code < 500, body
        return answer.text
    with web.stream("GET", "/gradio_api/queue/data", params={"session_hash": body["session_hash"]}) as stream:
        return "".join(stream.iter_lines())


def test_no_function_of_the_demo_fetches_an_address(
    web: httpx.Client, listener: tuple[str, list[bytes]], tmp_path: Path
) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    values = [*files(listener[0], str(tmp_path / "secret.png")), 10**400, [["a"]], ["a"] * 65]
    config = web.get("/config").json()
    functions = [one for one in config["dependencies"] if one["backend_fn"] and one["inputs"]]
    assert len(functions) >= SHARES, "every value is sent to a function"
    states = {one["id"] for one in config["components"] if one["type"] == "state"}
    for number, function in enumerate(functions):
        if set(function["inputs"]) <= states:  # which Gradio takes from the session
            continue
        for value in values[number % SHARES :: SHARES]:
            data = [value] * len(function["inputs"])
            body = {"data": data, "fn_index": function["id"], "session_hash": f"files{number}", "event_data": value}
            assert "do not fit" in joined(web, body), (function["api_name"], value)
            for route in ("run", "api", "call/v2"):
                assert web.post(f"/gradio_api/{route}/{function['api_name']}", json=body).status_code == 404
    assert listener[1] == []


def test_an_upload_is_read_and_no_other_file_beside_it(web: httpx.Client) -> None:
    (path,) = web.post("/gradio_api/upload", files={"files": ("a.png", b"no image")}).raise_for_status().json()
    other = security.private_folder() / "other.png"
    other.write_bytes(b"not uploaded")
    function = next(one["id"] for one in web.get("/config").json()["dependencies"] if one["api_name"] == "count_1")
    answers = {path: "is not an image", str(other): "do not fit", f"{path}/../../other.png": "do not fit"}
    for given, told in answers.items():
        photo = {"path": given, "url": "http://127.0.0.1:1/x", "meta": {"_type": "gradio.FileData"}}
        body = {"data": [photo, "person", "nanodet"], "fn_index": function, "session_hash": "upload"}
        assert told in joined(web, body), given
    for where, status in {path: 200, "/etc/passwd": 404, "http://127.0.0.1:1/x": 404, f"{path}/../x": 403}.items():
        assert web.get(f"/gradio_api/file={quote(where)}").status_code == status, where


def test_only_the_own_origin_and_names_of_the_loopback_are_answered(web: httpx.Client, demo: str) -> None:
    port = demo.rpartition(":")[2]
    for origin in ("https://evil.example", "http://127.0.0.1:1", "http://127.0.0.1.evil.example", "null"):
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        for answer in (
            web.post("/gradio_api/call/generate", json={"data": ["one apple"]}, headers={"Origin": origin}),
            web.post("/gradio_api/upload", files={"files": b"x"}, headers={"Origin": origin}),
            web.get("/config", headers={"Origin": origin}),
            web.options("/gradio_api/queue/join", headers=asked),
        ):
            assert answer.status_code == 403
            assert not any(name.startswith("access-control-") for name in answer.headers)
    own = web.get("/config", headers={"Origin": demo})
    assert own.status_code == 200
    assert not any(name.startswith("access-control-") for name in own.headers)
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "localhost.", ""):
        assert web.get("/config", headers={"Host": host}).status_code == 403, host
    for host in (f"localhost:{port}", f"[::1]:{port}", "127.0.0.1"):
        assert web.get("/config", headers={"Host": host}).status_code == 200, host


def test_bodies_of_another_type_or_size_are_not_read(web: httpx.Client) -> None:
    join = "/gradio_api/queue/join"
    for kind in ("text/plain", "application/x-www-form-urlencoded", "", "application/json-x", "multipart/form-data"):
        assert web.post(join, content=b"{}", headers={"Content-Type": kind}).status_code == 415, kind
    for path, size in ((join, 2**21 + 1), ("/login", 2**13 + 1), ("/gradio_api/upload", 11 * 2**20)):
        assert web.post(path, content=bytes(size), headers={"Content-Type": "application/json"}).status_code == 413
    assert web.post(join, content=iter([b"{}"]), headers={"Content-Type": "application/json"}).status_code == 411
    for path in ("/gradio_api/component_server", "/gradio_api/stream/a", "/gradio_api/process_recording", "/config"):
        assert web.post(path, json={}).status_code == 404, path
    too_long = ("/assets/" + "a" * 300, "/static" + "/a" * 2000)
    for path in ("/monitoring", "/docs", "/gradio_api/runs", "/gradio_api/deep_link?session_hash=a", *too_long):
        assert web.get(path).status_code == 404, path
    for path in ("/?page=x", "/?deep_link=../../x"):
        assert web.get(path).status_code == 200, path


OPEN = ("/theme.css", "/favicon.ico", "/robots.txt", "/gradio_api/startup-events")
CLOSED = (
    *("/config", "/gradio_api/info", "/gradio_api/heartbeat/a", "/gradio_api/queue/data?session_hash=a", "/logout"),
    *("/gradio_api/user", "/gradio_api/app_id", "/gradio_api/file=/etc/passwd", "/gradio_api/nothing", "/docs"),
)
CLOSED_CALLS = ("queue/join", "cancel", "reset", "upload", "call/generate", "run/generate", "component_server")


def test_before_login_only_the_login_page_is_served(models: countgen.Models, chromium) -> None:
    with served(models, auth=("ada", "lovelace")) as url, httpx.Client(base_url=url) as one:
        page = one.get("/")
        assert page.status_code == 200
        assert not any(word in page.text for word in ("generate", "apple", "/edit", "countgen-demo-"))
        assert [one.get(path).status_code for path in OPEN] == [200] * len(OPEN)
        assert [one.get(path).status_code for path in CLOSED] == [401] * len(CLOSED)
        assert [one.post(f"/gradio_api/{name}", json={}).status_code for name in CLOSED_CALLS] == [401] * 7
        assert one.post("/login", data={"username": "ada", "password": "wrong"}).status_code == 400
        with httpx.Client(base_url=url) as two:
            for visitor in (one, two):
                assert visitor.post("/login", data={"username": "ada", "password": "lovelace"}).status_code == 200
                assert visitor.get("/config").status_code == 200
            token = dict(one.cookies)
            one.get("/logout")
            assert two.get("/config").status_code == 200, "a visitor logs out nobody else"
            assert httpx.get(f"{url}/config", cookies=token).status_code == 401
        browser = chromium.new_page()
        browser.goto(url)
        browser.get_by_label("username").fill("ada")
        browser.get_by_label("password").fill("lovelace")
        browser.get_by_role("button", name="Login").click()
        browser.locator("#go").wait_for()
        browser.close()


def stalled(url: str, path: str, cookie: str = "") -> socket.socket:
    """Send the head of a call and all of its body but the end."""
    host, port = url.removeprefix("http://").split(":")
    head = f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\nContent-Length: 2097152"
    opened = socket.create_connection((host, int(port)))
    opened.sendall(f"{head}\r\nCookie: {cookie}\r\n\r\n".encode() + b"a" * 60_000)
    opened.settimeout(20)
    return opened


def test_stalled_bodies_end_and_do_not_add_up(models: countgen.Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security, "SECONDS_FOR_A_BODY", 1.0)
    with served(models, auth=("ada", "lovelace")) as url:
        assert stalled(url, "/gradio_api/queue/join").recv(12).endswith(b"401"), "before login no body is read"
    with served(models) as url:
        begun = time.monotonic()
        held = [stalled(url, "/gradio_api/queue/join") for _ in range(3 * security.MAX_CALLS)]
        answers = [one.recv(12)[-3:] for one in held]
        assert answers.count(b"429") == 2 * security.MAX_CALLS
        assert answers.count(b"408") == security.MAX_CALLS
        assert time.monotonic() - begun < 15
        for one in held:
            one.close()
        assert httpx.post(f"{url}/gradio_api/call/generate", json={"data": [""]}).status_code == 200


def test_the_served_page_names_no_path_but_the_folder_of_its_images(web: httpx.Client) -> None:
    root = str(Path(countgen.__file__).parents[1])
    for path in ("/", "/config", "/gradio_api/info", "/theme.css"):
        text = web.get(path).raise_for_status().text
        assert not any(secret in text for secret in (root, "Traceback", "site-packages", "/root/", "/home/")), path
    names = json.loads(web.get("/gradio_api/info").text)["named_endpoints"]
    assert set(names) == {"/generate", "/edit", "/count"}
