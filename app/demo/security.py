"""Who may reach the demo's server, by which routes and with what bodies, and which files a call may name.

Gradio's own routes would fetch any address and open many paths. All that SECURITY.md promises about the server is
kept in this file: `CheckedBlocks` checks every input before Gradio reads it, `Guard` every request.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import re
import shutil
import tempfile
import time
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

# Set before Gradio is imported, which would send usage statistics otherwise.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr
from gradio.components.api_component import Api
from gradio.routes import App
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse

from countgen.app.demo import LOOPBACKS

_LOOPBACK_HOSTS = frozenset((*LOOPBACKS, "[::1]"))

MAX_FILE_BYTES = 10 * 2**20
_MAX_BODY_BYTES = {"/login": 8 * 2**10, "/gradio_api/upload": MAX_FILE_BYTES + 2**16}
_MAX_CALL_BYTES = 2 * 2**20
MAX_BODIES = 8
"""Bodies of one address that may be on their way at a time."""
SECONDS_FOR_A_BODY = 20.0
MAX_FOLDER_BYTES = 512 * 2**20
"""Total size of the uploads and previews on the disk; the oldest are deleted first."""

_FILE = "/gradio_api/file="
_BEFORE_LOGIN = re.compile(r"/|/(login|theme\.css|favicon\.ico|robots\.txt)|/(assets|static)/.+")
_READ = re.compile(
    r"/(config|logout|manifest\.json)|/gradio_api/(theme\.css|app_id|user|token|login_check|info|startup-events"
    r"|queue/data|upload_progress|heartbeat/[^/]+|call/[^/]+/[^/]+)|" + _FILE + r".+"
)
_CALL = re.compile(r"/gradio_api/(queue/join|cancel|reset|call/[^/]+)")

_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'self'; "
    "frame-ancestors 'self'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
_LOG = logging.getLogger(__name__)


@cache
def private_folder() -> Path:
    """Return the folder of uploads and previews, which only this user can read and which the process deletes."""
    folder = Path(tempfile.mkdtemp(prefix="countgen-demo-")).resolve()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    return folder


def delete_oldest(folder: Path, max_bytes: int) -> None:
    """Delete the oldest files of a folder until the others have at most so many bytes."""
    files = [(path.stat(), path) for path in folder.rglob("*") if path.is_file()]
    left = sum(stat.st_size for stat, _ in files)
    for stat, path in sorted(files, key=lambda file: file[0].st_mtime):
        if left <= max_bytes:
            break
        path.unlink(missing_ok=True)
        left -= stat.st_size


class CheckedBlocks(gr.Blocks):  # type: ignore[misc, unused-ignore]
    """A page whose functions take plain values, and files only if this server received them as uploads."""

    def get_api_info(self, all_endpoints: bool = False, page: str | None = None) -> Any:
        """Return what programs may call; nothing for the HTML of a page, which is served before login, too."""
        if page is not None:
            return {"named_endpoints": {}, "unnamed_endpoints": {}}
        return super().get_api_info(all_endpoints)

    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False
    ) -> list[Any]:
        """Return the checked inputs of a function after preprocessing by its components.

        Raises:
            gr.Error: an input is neither plain nor an upload, there are too few, or a component does not accept one.
        """
        try:
            # Programs may leave out the last inputs; Gradio fills in defaults for its own client only.
            left_out = block_fn.inputs[len(inputs) :]
            inputs = [*inputs, *(field.value for field in left_out if isinstance(field, Api))]
            checked = [self._checked(value, field) for value, field in zip(inputs, block_fn.inputs, strict=True)]
            return await super().preprocess_data(block_fn, checked, state, explicit_call)
        except Exception as error:
            _LOG.warning("refused %s: %s", block_fn.api_name, as_line(error))
            raise gr.Error("These inputs do not fit this function.", print_exception=False) from None

    def _checked(self, value: Any, field: Any) -> Any:
        """Return a plain value, a short list of plain values, or the path of an upload."""
        if isinstance(value, dict) and isinstance(field, gr.UploadButton | gr.Image):
            # Nothing else of the dictionary reaches Gradio, which fetches addresses and opens paths that it names.
            path = value.get("path")
            if not isinstance(path, str) or path not in self.upload_file_set:
                raise ValueError("not a file that was uploaded here")
            return {"path": path, "orig_name": Path(path).name, "meta": {"_type": "gradio.FileData"}}
        if isinstance(field, gr.Textbox) and not isinstance(value, str | None):
            raise ValueError(f"a text field got {type(value).__name__}")  # Gradio would pass on its str()
        for plain in value if isinstance(value, list) and len(value) <= 64 else [value]:
            if isinstance(plain, str):
                plain.encode()
            elif isinstance(plain, dict | list | tuple) or (plain is not None and not abs(plain) <= 2**53):
                raise ValueError(f"neither text nor a number: {type(plain).__name__}")
        return value


class GuardedApp(App):  # type: ignore[misc, unused-ignore]
    """Gradio's web application behind a `Guard`.

    Args:
        host: the address that the server listens on.
    """

    def __init__(self, host: str) -> None:
        super().__init__(docs_url=None, redoc_url=None, openapi_url=None)
        self._hosts = _LOOPBACK_HOSTS if host in LOOPBACKS else None

    def build_middleware_stack(self) -> Any:
        """Return the middleware with the guard outermost, outside Gradio's own, which answers some requests itself."""
        return Guard(super().build_middleware_stack(), self, self._hosts)


class Guard:
    """ASGI middleware that passes on the requests that the page needs, and answers all others with 4xx.

    Args:
        app: the wrapped application.
        gradio: the same without middleware, which knows who is logged in.
        hosts: accepted host names, because another site can point its own domain at this server and send requests in
            the visitor's name (DNS rebinding); None accepts any.
    """

    def __init__(self, app: Any, gradio: App, hosts: frozenset[str] | None) -> None:
        self.app, self.gradio, self.hosts = app, gradio, hosts
        self._bodies: Counter[str] = Counter()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        request, path = Request(scope), scope["path"].rstrip("/") or "/"
        if refusal := self._refusal(request, path):
            status, reason = refusal
            if status != 401:  # a closed page's connections come back without a login
                _LOG.warning("refused %s %s: %s", scope["method"], as_line(path), reason)
            return await JSONResponse({"detail": reason}, status, _HEADERS)(scope, receive, send)
        if path == "/logout":  # Gradio would log out everybody who has the same name
            for token in self._tokens(request):
                del self.gradio.tokens[token]
        if path in ("/", "/config", "/logout"):
            scope["query_string"] = b"all_session=false"  # Gradio fails on unknown pages, and opens deep links
        await self._pass_on(scope, receive, send)

    def _refusal(self, request: Request, path: str) -> tuple[int, str] | None:
        """Return status and reason if a request is not to be passed on, by its head alone."""
        headers, method, reads = request.headers, request.method, request.method in ("GET", "HEAD")
        host = re.sub(r":\d+$", "", headers.get("host", "").lower())
        if (self.hosts is not None and host not in self.hosts) or is_foreign(headers):
            return 403, "This host name or origin is not allowed."
        if self.gradio.auth is not None and not _BEFORE_LOGIN.fullmatch(path) and not self._tokens(request):
            return 401, "Log in first."
        in_folder = path.startswith(f"{_FILE}{private_folder()}/") or not path.startswith(_FILE)
        known = _BEFORE_LOGIN.fullmatch(path) or _READ.fullmatch(path)
        if re.search(r"\.\.|//|\\|\0", path) or not in_folder or not (known or self._takes_bodies(path)):
            return 404, "Not found."
        if not (reads and known) and not (method == "POST" and self._takes_bodies(path)):
            return 405, "This path does not accept this method."
        if reads:
            return None
        length = headers.get("content-length", "")
        if not length.isdigit() or "transfer-encoding" in headers:
            return 411, "Give the length of the body."
        if int(length) > _MAX_BODY_BYTES.get(path, _MAX_CALL_BYTES):
            return 413, "The request body is too large."
        # Browsers send forms and plain text to another origin without asking, but not JSON.
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if _CALL.fullmatch(path) and kind != "application/json":
            return 415, "Send application/json."
        if self._bodies[_address(request)] >= MAX_BODIES:
            return 429, "Too many requests of this address are on their way; try again in a minute."
        return None

    @staticmethod
    def _takes_bodies(path: str) -> bool:
        return path in _MAX_BODY_BYTES or _CALL.fullmatch(path) is not None

    def _tokens(self, request: Request) -> list[str]:
        """Return the tokens of a visitor who is logged in."""
        names = [f"access-token{kind}-{self.gradio.cookie_id}" for kind in ("", "-unsecure")]
        return list({token for name in names if (token := request.cookies.get(name)) in self.gradio.tokens})

    async def _pass_on(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass on a request; its body must arrive in time, and the response has the demo's headers."""
        address, until = _address(Request(scope)), time.monotonic() + SECONDS_FOR_A_BODY
        reading, late = scope["method"] == "POST", False

        async def receive_in_time() -> Any:
            nonlocal reading, late
            if not reading:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.0, until - time.monotonic()))
            except TimeoutError:
                late, message = True, {"type": "http.disconnect"}
            if not message.get("more_body"):
                reading = False
                self._bodies[address] -= 1
            return message

        async def send_checked(message: Any) -> None:
            if message["type"] == "http.response.start":
                kept = [pair for pair in message["headers"] if not pair[0].lower().startswith(b"access-control-")]
                own = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                status = 408 if late else 429 if message["status"] == 503 else message["status"]  # 503: a full queue
                message = message | {"headers": kept + own, "status": status}
            await send(message)

        self._bodies[address] += reading
        try:
            await self.app(scope, receive_in_time, send_checked)
        except Exception as error:  # Gradio has answered with 500; a caller controls the length of the message
            _LOG.warning("failed %s %s: %s", scope["method"], as_line(scope["path"]), as_line(error))
        finally:
            self._bodies[address] -= reading
            if scope["method"] == "POST":
                await asyncio.to_thread(delete_oldest, private_folder(), MAX_FOLDER_BYTES)


def is_foreign(headers: Headers) -> bool:
    """Return whether a page of another origin sends a request, by the `Origin` header that browsers add.

    A reverse proxy must pass on the host it is addressed by, in `Host` or `X-Forwarded-Host`.
    """
    origin = headers.get("origin")
    if origin is None:
        return False
    own = {headers.get(name, "").lower() for name in ("host", "x-forwarded-host")} - {""}
    try:
        return urlsplit(origin).netloc.lower() not in own
    except ValueError:
        return True


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def as_line(text: object) -> str:
    """Return what a visitor wrote as one short line for the log."""
    return ascii(str(text)[:200])[1:-1]
