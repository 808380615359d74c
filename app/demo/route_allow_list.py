"""Middleware that allows the routes the demo uses and refuses all others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from countgen.app.demo.limits import RefusedError
from countgen.app.demo.model_cache import release_memory
from countgen.app.demo.request_bodies import UnknownFunctionError, check_call, check_cancel
from countgen.app.demo.responses import (
    REFUSALS,
    Message,
    Receive,
    ResponseSender,
    Send,
    log_line,
    read_body,
    replay_body,
    send_error,
    send_status,
)

_EXACT = frozenset(
    "/ /config /theme.css /favicon.ico /robots.txt /manifest.json /login /logout /gradio_api/theme.css "
    "/gradio_api/app_id /gradio_api/user /gradio_api/token /gradio_api/login_check /gradio_api/info "
    "/gradio_api/startup-events /gradio_api/queue/join /gradio_api/queue/data /gradio_api/cancel "
    "/gradio_api/reset".split()
)
_UNDER = ("/assets/", "/static/", "/gradio_api/heartbeat/", "/gradio_api/run/", "/gradio_api/call/")
_JOIN, _LOGIN = "/gradio_api/queue/join", "/login"
_RUN, _CALL = "/gradio_api/run/", "/gradio_api/call/"
"""Where functions are called by name: at once, and through the queue."""
_CANCELS = ("/gradio_api/cancel", "/gradio_api/reset")
MAX_BODY_BYTES = 2 * 1024 * 1024
"""Maximum size of a request body; the largest token file in base64 takes two thirds of it."""
MAX_LOGIN_BYTES = 8 * 1024
"""Maximum size of a login form; the form parser would write larger ones to the disk."""

MAX_UNRELEASED_BYTES = 32 * 1024 * 1024
"""Total size of request bodies after which a garbage collection, which takes half a second, is forced."""

_LOG = logging.getLogger(__name__)


class RouteAllowList:
    """ASGI middleware that passes the requests the page needs and refuses all others.

    Images and files are sent inside the page's own data, so Gradio's routes that read and write files on the server
    (`/file=`, `/upload`, `/proxy=`, ...) are not needed: they get status 404 for every path. The bodies of all other
    requests are read and checked before Gradio sees them. The page loads nothing from other hosts and requests from
    other origins are refused; the security headers make the browser enforce both.

    Args:
        app: the wrapped application: Gradio with all of its own middleware.
        page: the page that is served, with its functions and its queue.
        hosts: accepted host names; a request to any other is refused, because another site can point its own domain
            at this server and send requests in the visitor's name (DNS rebinding). None accepts any.
    """

    def __init__(
        self,
        app: Callable[[Message, Receive, Send], Awaitable[None]],
        page: Any,
        hosts: frozenset[str] | None = None,
    ) -> None:
        self.app, self.page, self.hosts = app, page, hosts
        self._unreleased = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Refuse the request with a status of 400 or above, or pass it to the application."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        status = self._header_status(scope)
        if status:
            await send_status(send, scope["type"], status)
            return
        queue = self.page._queue
        joins = scope["path"].rstrip("/") == _JOIN or (scope["path"].startswith(_CALL) and scope["method"] == "POST")
        if joins and len(queue) >= queue.max_size:
            await send_error(send, 429, f"{len(queue)} jobs are in the queue already; try again in a minute.")
            return
        if scope["method"] == "POST":
            body = await read_body(receive)
            try:
                self._check_body(scope["path"], body)
            except RefusedError as error:
                _LOG.warning("refused POST %s: %s", log_line(scope["path"]), error)
                await send_error(send, 404 if isinstance(error, UnknownFunctionError) else 400, str(error))
                return
            receive = replay_body(body, receive)
        response = ResponseSender(send)
        scope[REFUSALS] = response.refusals
        try:
            await self.app(scope, receive, response)
        except Exception as error:
            # Gradio has responded with 500; the traceback shows its code only, and a caller controls its length.
            fault = log_line(f"{type(error).__name__}: {error}")
            _LOG.warning("failed %s %s: %s", scope["method"], log_line(scope["path"]), fault)
            await response.end()
        if scope["method"] == "POST":
            await self._release(len(body))

    async def _release(self, size: int) -> None:
        """Release the memory of large bodies; Python would collect those that failed calls keep alive far too late."""
        self._unreleased += size
        if self._unreleased > MAX_UNRELEASED_BYTES:
            self._unreleased = 0
            await asyncio.to_thread(release_memory)

    def _header_status(self, scope: Message) -> int:
        """Return the status that refuses a request because of its headers; 0 if they are accepted."""
        if self.hosts is not None and _host(scope) not in self.hosts:
            return 403
        if scope["type"] != "http" or not is_allowed(scope["path"]):
            return 404
        if is_foreign(dict(scope["headers"])):
            return 403
        path, length = scope["path"].rstrip("/"), _length(scope)
        if length > (MAX_LOGIN_BYTES if path == _LOGIN else MAX_BODY_BYTES):
            return 413
        if scope["method"] in ("GET", "HEAD"):
            return 0
        if scope["method"] != "POST" or not (path in (_JOIN, _LOGIN, *_CANCELS) or path.startswith((_RUN, _CALL))):
            return 405
        content_type = dict(scope["headers"]).get(b"content-type", b"").partition(b";")[0].strip().lower()
        # Browsers send forms and plain text across origins without a preflight request, but not JSON.
        return 0 if path == _LOGIN or content_type == b"application/json" else 415

    def _check_body(self, path: str, body: bytes) -> None:
        path = path.rstrip("/")
        if path in _CANCELS:
            check_cancel(body)
        elif path != _LOGIN:
            # Functions without Python code only make the browser cancel a job.
            functions = {number: function.api_name for number, function in self.page.fns.items() if function.fn}
            named = path.removeprefix(_RUN).removeprefix(_CALL) if path.startswith((_RUN, _CALL)) else None
            check_call(body, [*functions, *functions.values()], named)


def is_foreign(headers: Mapping[bytes, bytes]) -> bool:
    """Return whether a request comes from a page of another origin, by the `Origin` header that browsers add.

    A reverse proxy must forward the original host in `Host` or `X-Forwarded-Host`. A page cannot set these headers in
    a cross-origin request without a preflight request, which gets status 403.
    """
    origin = headers.get(b"origin")
    if origin is None:
        return False
    own = {headers.get(name, b"").decode("latin-1").lower() for name in (b"host", b"x-forwarded-host")}
    try:
        return urlsplit(origin.decode("latin-1")).netloc.lower() not in own - {""}
    except ValueError:
        return True


def is_allowed(path: str) -> bool:
    """Return whether the page needs a path; `scope["path"]` is percent-decoded already."""
    plain = path.rstrip("/") or "/"
    if ".." in path or "\\" in path or "\0" in path or "//" in path:
        return False
    return plain in _EXACT or plain.startswith(_UNDER)


def _host(scope: Message) -> str:
    """Return the host that a request is addressed to, without its port."""
    name = dict(scope["headers"]).get(b"host", b"").decode("latin-1").lower()
    return name[: name.rfind(":")] if name.rpartition(":")[2].isdigit() else name


def _length(scope: Message) -> int:
    headers = dict(scope["headers"])
    if scope["method"] in ("GET", "HEAD"):
        return 0
    # The size of a body without a declared length cannot be checked beforehand.
    text = headers.get(b"content-length", b"")
    return int(text) if text.isdigit() else MAX_BODY_BYTES + 1
