"""What SECURITY.md promises about the demo's server: `Guard` checks every request, `CheckedBlocks` every input.

Gradio by itself fetches addresses and opens paths that stand in a request.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import shutil
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

# Set before Gradio is imported, which would send usage statistics otherwise.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr
from gradio.components.api_component import Api
from gradio.routes import App
from starlette.requests import Request
from starlette.responses import JSONResponse

from countgen.app.request_guard import body_refusal, is_foreign, pass_on

MAX_FILE_BYTES = 10 * 2**20
_MAX_BODY_BYTES = {"/login": 2**13, "/gradio_api/upload": MAX_FILE_BYTES + 2**16}
MAX_CALLS, SECONDS_FOR_A_BODY = 8, 20.0  # calls of one address at a time, and how long a body may be on its way
MIN_FREE_BYTES = 2**30  # uploads leave it on the disk, and Gradio deletes them after an hour

_PUBLIC = re.compile(r"HEAD /|GET /([a-z]+\.(css|ico|txt)|gradio_api/startup-events|(assets|static)/.+)?|POST /login")
_MEMBERS = re.compile(
    r"GET (/(config|logout|manifest\.json)|/gradio_api/(theme\.css|app_id|user|token|login_check|info"
    r"|queue/data|upload_progress|heartbeat/[^/]+|call/[^/]+/[^/]+|file=.+))"
    r"|POST /gradio_api/(queue/join|cancel|reset|upload|call/[^/]+)"
)
_UNUSABLE = re.compile(rb"\.\.|//|\\|\0|[^/]{256}|.{2000}")  # Gradio answers names too long for the system with 500
_HEADERS = {
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; object-src 'none'; "
    "base-uri 'self'; frame-ancestors 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
_LOG = logging.getLogger(__name__)


@cache
def private_folder() -> Path:
    """Return the folder of uploads and previews: only this user reads it, and it is deleted when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="countgen-demo-")).resolve()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    return folder


class CheckedBlocks(gr.Blocks):  # type: ignore[misc, unused-ignore]
    """A page whose functions take plain values, and files only if this server received them as uploads."""

    def get_api_info(self, all_endpoints: bool = False, page: str | None = None) -> Any:
        """Return what programs may call; nothing for the HTML of the page, which is served before login, too."""
        return super().get_api_info() if page is None else {"named_endpoints": {}, "unnamed_endpoints": {}}

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *more: Any, **options: Any) -> list[Any]:
        """Return the inputs of a function, checked and preprocessed, or raise `gr.Error`."""
        try:
            # Programs may leave out the last inputs; Gradio fills in defaults for its own client only.
            left_out = block_fn.inputs[len(inputs) :]
            inputs = [*inputs, *(field.value for field in left_out if isinstance(field, Api))]
            checked = [self._checked(value, field) for value, field in zip(inputs, block_fn.inputs, strict=True)]
            return await super().preprocess_data(block_fn, checked, *more, **options)
        except Exception as error:
            _LOG.warning("refused %s: %.200a", block_fn.api_name, str(error))
            raise gr.Error("These inputs do not fit this function.", print_exception=False) from None

    def _checked(self, value: Any, field: Any) -> Any:
        """Return a plain value, a short list of plain values, or the path of an upload."""
        if isinstance(value, dict) and isinstance(field, gr.UploadButton | gr.Image):
            # Nothing else of the dictionary reaches Gradio, which would fetch addresses and open paths in it.
            path = value.get("path")
            if not isinstance(path, str) or path not in self.upload_file_set:
                raise ValueError("not a file that was uploaded here")
            return {"path": path, "orig_name": Path(path).name, "meta": {"_type": "gradio.FileData"}}
        for plain in value if isinstance(value, list) and len(value) <= 64 else [value]:
            if isinstance(plain, str):
                plain.encode()  # fails on half a surrogate pair
            elif plain is not None and not (isinstance(plain, int | float) and abs(plain) <= 2**53):
                raise ValueError(f"neither text nor a number: {type(plain).__name__}")
        return value


class GuardedApp(App):  # type: ignore[misc, unused-ignore]
    """Gradio's web application behind a `Guard`, which is outside Gradio's own middleware."""

    hosts: frozenset[str] | None = None

    def build_middleware_stack(self) -> Any:
        """Return the application with its middleware."""
        return Guard(super().build_middleware_stack(), self, self.hosts)


class Guard:
    """ASGI middleware that passes on the requests that the page needs, and answers all others with 4xx.

    Args:
        app: the wrapped application.
        gradio: the same without middleware, which knows who is logged in.
        hosts: accepted names of this server, against DNS rebinding; None accepts any.
    """

    def __init__(self, app: Any, gradio: App, hosts: frozenset[str] | None) -> None:
        self.app, self.gradio, self.hosts = app, gradio, hosts
        self._calls: Counter[str] = Counter()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":  # the beginning and the end; Gradio has no websockets
            return await self.app(scope, receive, send)
        request, path = Request(scope), scope["path"].rstrip("/") or "/"
        if refusal := self._refusal(request, path):
            return await JSONResponse({"detail": refusal[1]}, refusal[0], _HEADERS)(scope, receive, send)
        if path == "/logout":  # Gradio would log out everybody who has the same name
            for token in self._tokens(request):
                del self.gradio.tokens[token]
        if path in ("/", "/config", "/logout"):
            scope["query_string"] = b"all_session=false"  # Gradio fails on unknown pages, and opens deep links
        call = Counter({scope["client"][0]: int(request.method == "POST")})
        self._calls += call
        try:
            faults = {500: 400, 503: 429} if request.method == "POST" else {}  # a call of no function, a full queue
            await pass_on(
                self.app,
                scope,
                receive,
                send,
                seconds=SECONDS_FOR_A_BODY,
                headers=_HEADERS,
                status_of=lambda status: faults.get(status, status),
            )
        finally:
            self._calls -= call  # which drops addresses without calls

    def _refusal(self, request: Request, path: str) -> tuple[int, str] | None:
        """Return status and reason if a request is not passed on, by its head alone."""
        route = f"{request.method} {path}"
        if is_foreign(request, self.hosts):
            return 403, "This host name or origin is not allowed."
        public = _PUBLIC.fullmatch(route)
        if self.gradio.auth is not None and not public and not self._tokens(request):
            return 401, "Log in first."
        file = path.partition("file=")[2]
        outside = (file and not file.startswith(f"{private_folder()}/")) or _UNUSABLE.search(path.encode())
        if outside or not (public or _MEMBERS.fullmatch(route)):
            return 404, "Not found."
        if request.method != "POST":
            return None
        most = _MAX_BODY_BYTES.get(path, 2 * 2**20)
        if refusal := body_refusal(request, most, as_json=path not in _MAX_BODY_BYTES):
            return refusal
        if self._calls[request.scope["client"][0]] >= MAX_CALLS:
            return 429, "Too many requests of this address at a time; try again in a minute."
        if path.endswith("/upload") and shutil.disk_usage(private_folder()).free < MIN_FREE_BYTES:
            return 429, "There is no room for uploads at the moment; try again in an hour."
        return None

    def _tokens(self, request: Request) -> set[str]:
        """Return the tokens of a visitor who is logged in."""
        names = [f"access-token{kind}-{self.gradio.cookie_id}" for kind in ("", "-unsecure")]
        return {token for name in names if (token := request.cookies.get(name, "")) in self.gradio.tokens}
