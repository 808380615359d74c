"""Random requests to every route of the demo: `python -m tests.faults.fuzz_demo --tries 600 --seed 0`.

A try fails where the demo answers with 500 or above, calls an address, opens a file, gives another origin an answer,
or writes a traceback. Exit code 1 where any did.
"""

import argparse
import base64
import contextlib
import io
import json
import logging
import random
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import httpx

from countgen.app.demo.jobs import EXAMPLE_FILE
from tests.browser.listener import files, listening
from tests.browser.paths import HOSTILE_PATHS

HONEST = {"data": ["seven unicorns on a bicycle", "nothing"]}
EVERY = 50
"""Tries between two honest calls, which must go on to work."""
ROUTES = (
    "run/{}",
    "queue/join",
    "queue/join",
    "call/{}",
    "call/v2/{}",
    "api/{}",
    "call/{}/",
    "cancel",
    "reset",
    "upload",
)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
ORIGINS = ("https://evil.example", "null", "http://127.0.0.1:1", "http://[::1", "")
KINDS = (
    "application/json",
    "application/json; charset=utf-16",
    "text/plain",
    "multipart/form-data",
    "application/json,",
)
PNG = base64.b64encode(EXAMPLE_FILE.read_bytes()).decode()
ODD = (
    None,
    True,
    -1,
    0,
    2**31,
    2**53,
    10**400,
    0.5,
    "",
    "one apple",
    "miniature",
    "a" * 600,
    "\ud800",
    "\0",
    "<b onclick=x>",
    "٣",
    "../../etc/passwd",
    "http://127.0.0.1/",
    "apple=3",
    "batch_size=1000000",
    "miniature-fcos",
    PNG,
    PNG[:400],
    "data:image/png;base64," + PNG[:4000] + "AAAA" + PNG[4004:],
    base64.b64encode(b"\xff\xd8\xff\xe0" + bytes(64)).decode(),
    [],
    ["apple"],
    [["apple"]],
    {},
    {"__type__": "update"},
)


def fuzz_demo_routes(rng: random.Random, tries: int) -> list[str]:
    """Send random requests to a demo of its own; one line for each that was answered as none may be."""
    from countgen.app.demo.limits import Limits
    from countgen.app.demo.page import build, launch

    said = io.StringIO()
    logging.getLogger("countgen.app.demo").addHandler(kept := logging.StreamHandler(said))
    with tempfile.TemporaryDirectory() as folder, listening() as listener, contextlib.redirect_stderr(said):
        secret = Path(folder) / "secret.txt"
        secret.write_text("countgen-secret")
        page = build(Limits())
        url = launch(page).rstrip("/")
        failures = []
        with httpx.Client(base_url=url, timeout=30) as web:
            calls = _Calls(rng, web, files(listener.address, str(secret)))
            for number in range(tries):
                method, path, headers, body = calls.draw()
                wrong = _wrong(web, method, path, headers, body)
                if number % EVERY == 0 and web.post("/gradio_api/call/generate", json=HONEST).status_code != 200:
                    wrong = "a valid call is refused afterwards"
                if listener.called:
                    wrong = f"called {listener.called}"
                    listener.called.clear()
                if "Traceback" in said.getvalue():
                    wrong = "wrote a traceback: " + said.getvalue()[-300:]
                said.seek(0)
                said.truncate()
                if wrong:
                    failures.append(f"try {number}: {method} {path!r} {headers} {body[:300]!r}: {wrong}")
        page.close(verbose=False)
    logging.getLogger("countgen.app.demo").removeHandler(kept)
    return failures


class _Calls:
    """Draws requests: bodies of every shape for calls, damaged bodies, paths to the disk, foreign heads."""

    def __init__(self, rng: random.Random, web: httpx.Client, with_files: Sequence[object]) -> None:
        self.rng, self.odd = rng, [*ODD, *with_files]
        self.functions = web.get("/config").json()["dependencies"]

    def draw(self) -> tuple[str, str, dict[str, str], bytes]:
        """Method, path, headers and body of the next request."""
        rng, headers = self.rng, {"Content-Type": "application/json"}
        if rng.random() < 0.2:
            headers["Origin"] = rng.choice(ORIGINS)
        if rng.random() < 0.1:
            headers["Content-Type"] = rng.choice(KINDS)
        if rng.random() < 0.05:
            headers["Host"] = rng.choice(("evil.example", "localhost", "[::1]", "127.0.0.1.evil.example"))
        function = rng.choice(self.functions)
        path = "/gradio_api/" + rng.choice(ROUTES).format(function["api_name"])
        method, body = "POST", json.dumps(self._call(function)).encode()
        chance = rng.random()
        if chance < 0.15:
            method = rng.choice(METHODS)
        elif chance < 0.35:
            body = self._damaged(body)
        elif chance < 0.5:
            pieces = [piece for one in HOSTILE_PATHS for piece in one.split("/")]
            end = "/".join(rng.choices(pieces, k=rng.randint(1, 4)))
            start = rng.choice(("file=", "upload/", "proxy=", "static/", "run/", "queue/data?session_hash=", ""))
            method, path = rng.choice(METHODS), f"/gradio_api/{start}{end}"
        return method, path, headers, b"" if method in ("GET", "HEAD") else body

    def _call(self, function: dict) -> dict[str, object]:
        rng = self.rng
        # One odd value at least, and no plain text alone: what is honest throughout would be drawn, and take seconds.
        data = [rng.choice(self.odd) for _ in function["inputs"]]
        if rng.random() < 0.2:
            data = data[: rng.randint(0, len(data))] + [rng.choice(self.odd)] * rng.randint(0, 20)
        call: dict[str, object] = {"data": data, "fn_index": function["id"], "session_hash": "fuzz"}
        for key in ("event_data", "trigger_id", "fn_index", "session_hash", "event_id", "batched", "request", "data"):
            if rng.random() < 0.1:
                call[key] = rng.choice(self.odd)
        if rng.random() < 0.2:
            call["event_data"] = {rng.choice(("data", "index", "path", "url")): rng.choice(self.odd)}
        return call

    def _damaged(self, body: bytes) -> bytes:
        rng, place = self.rng, self.rng.randrange(len(body))
        return rng.choice(
            (
                body[:place],
                body[:place] + rng.randbytes(rng.randint(1, 8)) + body[place:],
                body[:place] + bytes([body[place] ^ 1 << rng.randrange(8)]) + body[place + 1 :],
                body.decode().encode("utf-16"),
                b"[" * rng.randint(1, 10_000) + body,
                b"",
            )
        )


def _wrong(web: httpx.Client, method: str, path: str, headers: dict[str, str], body: bytes) -> str | None:
    """What is wrong with the answer to a request; streams are left after their head."""
    try:
        request = web.build_request(method, path, headers=headers, content=body)
    except (httpx.InvalidURL, UnicodeEncodeError):
        return None
    try:
        answer = web.send(request, stream=True)
        ended = "content-length" in answer.headers or answer.status_code >= 400
        text = answer.read().decode("utf-8", "replace") if ended and method != "HEAD" else ""
        answer.close()
    except httpx.TransportError as error:
        return f"no answer: {error!r}"
    if answer.status_code >= 500:
        return f"{answer.status_code} {text[:200]}"
    if any(name.startswith("access-control-") for name in answer.headers):
        return "leave for another origin"
    if headers.get("Origin") is not None and answer.status_code < 400:
        return f"{answer.status_code} to another origin"
    if any(secret in text for secret in ("root:", "countgen-secret", "Traceback", "site-packages", "/tmp/gradio/")):
        return f"tells {text[:200]}"
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fuzz_demo", description=__doc__)
    parser.add_argument("--tries", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    failures = fuzz_demo_routes(random.Random(options.seed), options.tries)
    print(*failures, f"{options.tries} tries, {len(failures)} failures, seed {options.seed}", sep="\n")
    return int(bool(failures))


if __name__ == "__main__":
    raise SystemExit(main())
