"""Random requests to every route of the demo: it answers below 500, fetches no address and shows no file."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.browser.listener import files, listening
from tests.faults.hostile import ODD_VALUES, damaged_bytes

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
HONEST = {"data": ["seven unicorns on a bicycle", "nothing"]}
ROUTES = "run/{} queue/join queue/join call/{} call/v2/{} api/{} call/{}/ cancel reset upload".split()
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
ORIGINS = ("https://evil.example", "null", "http://127.0.0.1:1", "http://[::1", "")
HOSTS = ("evil.example", "localhost", "[::1]", "127.0.0.1.evil.example")
KINDS = ("application/json; charset=utf-16", "text/plain", "multipart/form-data", "application/json,")
HEADERS = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"Origin": st.sampled_from(ORIGINS)}),
    st.fixed_dictionaries({"Content-Type": st.sampled_from(KINDS)}),
    st.fixed_dictionaries({"Host": st.sampled_from(HOSTS)}),
)
HOSTILE_PATHS = r"""
/etc/passwd ///etc/passwd ../etc/passwd ../../../../../../../../etc/passwd ..%2f..%2f..%2fetc%2fpasswd
%2e%2e%2f%2e%2e%2fetc%2fpasswd %252e%252e/%252e%252e/etc/passwd ....//....//etc/passwd ..;/..;/etc/passwd
..\..\etc\passwd ..%5c..%5cetc%5cpasswd %c0%ae%c0%ae/%c0%ae%c0%ae/etc/passwd ..%c0%af..%c0%afetc/passwd
/etc/passwd%00 /etc/passwd%00.png /etc/./passwd ./../../etc/passwd assets/../../../etc/passwd C:\Windows\win.ini
\\host\share\file file:///etc/passwd http://127.0.0.1:22/ http://169.254.169.254/latest/meta-data/
data:text/plain,hello /proc/self/environ /proc/self/cwd/pyproject.toml /dev/zero /root/.ssh/id_rsa
countgen/app/demo/page.py pyproject.toml /tmp/gradio/%2e%2e/%2e%2e/etc/passwd
""".split()
PIECES = sorted({piece for path in HOSTILE_PATHS for piece in path.split("/")})
STARTS = ("file=", "upload/", "proxy=", "static/", "run/", "queue/data?session_hash=", "")
PATHS = st.builds(
    lambda start, path: f"/gradio_api/{start}{path}",
    st.sampled_from(STARTS),
    st.sampled_from(HOSTILE_PATHS) | st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map("/".join),
)
SECRETS = ("root:", "countgen-secret", "Traceback", "site-packages", "/tmp/gradio/")
KEYS = ("event_data", "trigger_id", "fn_index", "session_hash", "event_id", "batched", "request", "data")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A demo of its own, values that name files or an address, and the calls of that address."""
    from countgen.app.demo.jobs import EXAMPLE_FILE
    from countgen.app.demo.limits import Limits
    from countgen.app.demo.page import build, launch

    secret = tmp_path_factory.mktemp("secret") / "secret.txt"
    secret.write_text("countgen-secret")
    image = base64.b64encode(EXAMPLE_FILE.read_bytes()).decode()
    images = [image, image[:400], f"data:image/png;base64,{image[:4000]}AAAA{image[4004:]}"]
    page = build(Limits())
    with listening() as (address, calls), httpx.Client(base_url=launch(page).rstrip("/"), timeout=30) as web:
        functions = web.get("/config").json()["dependencies"]
        yield SimpleNamespace(web=web, functions=functions, calls=calls, files=[*files(address, str(secret)), *images])
        assert web.post("/gradio_api/call/generate", json=HONEST).status_code == 200
    page.close(verbose=False)


@st.composite
def bodies(draw: Callable, function: dict[str, Any], names: list[object]) -> bytes:
    """A call with odd values: an honest one would be generated, and take seconds."""
    odd = ODD_VALUES | st.sampled_from(names)
    number = len(function["inputs"])
    data = draw(st.lists(odd, min_size=number, max_size=number) | st.lists(odd, max_size=20))
    call = {"data": data, "fn_index": function["id"], "session_hash": "fuzz"}
    call |= draw(st.dictionaries(st.sampled_from(KEYS), odd, max_size=2))
    if draw(st.booleans()):
        call["event_data"] = {draw(st.sampled_from(("data", "index", "path", "url"))): draw(odd)}
    body = json.dumps(call).encode()
    return bytes(draw(st.one_of(st.just(body), st.just(body), damaged_bytes(body), st.just(b""))))


@pytest.fixture(scope="module")
def requests(demo: SimpleNamespace) -> list[tuple[str, str, dict[str, str], bytes]]:
    """Methods, paths, headers and bodies, drawn while the demo is idle: its threads disturb Hypothesis."""
    drawn = []

    @settings(max_examples=2 * settings().max_examples)
    @given(st.data())
    def draw(data: st.DataObject) -> None:
        function = data.draw(st.sampled_from(demo.functions))
        path = f"/gradio_api/{data.draw(st.sampled_from(ROUTES))}".format(function["api_name"])
        method, headers = "POST", {}
        if data.draw(st.booleans()):
            method, path, headers = (data.draw(values) for values in (st.sampled_from(METHODS), PATHS, HEADERS))
        body = b"" if method in ("GET", "HEAD") else data.draw(bodies(function, demo.files))
        drawn.append((method, path, {"Content-Type": "application/json"} | headers, body))

    draw()
    return drawn


def test_requests(
    demo: SimpleNamespace,
    requests: list[tuple[str, str, dict[str, str], bytes]],
    caplog: pytest.LogCaptureFixture,
    subtests: pytest.Subtests,
) -> None:
    for method, path, headers, body in requests:
        with subtests.test(method=method, path=path, headers=headers, body=body[:1000]):
            try:
                request = demo.web.build_request(method, path, headers=headers, content=body)
            except (httpx.InvalidURL, UnicodeEncodeError):
                continue  # no client can send it
            answer = demo.web.send(request, stream=True)  # a stream is left after its head
            ended = "content-length" in answer.headers or answer.status_code >= 400
            text = answer.read().decode("utf-8", "replace") if ended and method != "HEAD" else ""
            answer.close()
            assert (400 if "Origin" in headers else 200) <= answer.status_code < 500
            assert not any(name.startswith("access-control-") for name in answer.headers)
            assert not [secret for secret in SECRETS if secret in text]
            assert demo.calls == []
            assert not any(record.exc_info for record in caplog.records)
