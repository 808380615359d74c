"""The web server's routes that the demo uses; every other one is closed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from app.demo.limits import RefusedError
from app.demo.model_cache import give_memory_back
from app.demo.request_bodies import UnknownFunctionError, check_call, check_cancel
from app.demo.responses import REFUSALS, Answer, Message, Receive, Send, again, line, read, refuse, say

_EXACT = frozenset(
    "/ /config /theme.css /favicon.ico /robots.txt /manifest.json /login /logout /gradio_api/theme.css "
    "/gradio_api/app_id /gradio_api/user /gradio_api/token /gradio_api/login_check /gradio_api/info "
    "/gradio_api/startup-events /gradio_api/queue/join /gradio_api/queue/data /gradio_api/cancel "
    "/gradio_api/reset".split()
)
_UNDER = ("/assets/", "/static/", "/gradio_api/heartbeat/", "/gradio_api/run/")
_JOIN, _RUN, _LOGIN = "/gradio_api/queue/join", "/gradio_api/run/", "/login"
_CANCELS = ("/gradio_api/cancel", "/gradio_api/reset")
MAX_BODY_BYTES = 2 * 1024 * 1024
"""Of a request: the largest token file in base64, and room to spare."""
MAX_LOGIN_BYTES = 8 * 1024
"""Of a form with a user's name and a password; what is larger would be kept on the disk."""

MAX_REMEMBERED_BYTES = 32 * 1024 * 1024
"""Of bodies that may wait for Python's garbage collection, which takes half a second."""

_LOG = logging.getLogger(__name__)


class RouteAllowList:
    """An ASGI layer that lets through what the page needs, and nothing else.

    Pictures and files travel inside the page's own data, so Gradio's routes that read and write files on this machine
    (`/file=`, `/upload`, `/proxy=`, ...) are not needed: they are answered with 404, whatever path is asked for.
    The bodies of all other requests are read and checked before Gradio sees them. The page loads nothing from other
    hosts, and no page of another origin gets an answer; the headers make the browser hold to that.

    Args:
        app: the layer below: all of Gradio's, its own answers to other origins included.
        page: the page that is served, with its functions and its queue.
        hosts: the names this server goes by; a request to any other is refused, because a page of another site can
            have its own name lead here and so speak for the visitor (DNS rebinding). None for any.
    """

    def __init__(
        self,
        app: Callable[[Message, Receive, Send], Awaitable[None]],
        page: Any,
        hosts: frozenset[str] | None = None,
    ) -> None:
        self.app, self.page, self.hosts = app, page, hosts
        self._read = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer with a status of 400 or above, or pass the request on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        status = self._refusal(scope)
        if status:
            await refuse(send, scope["type"], status)
            return
        queue = self.page._queue
        if scope["path"] == _JOIN and len(queue) >= queue.max_size:
            said = f"{len(queue)} pictures and tokens are waited for already; try again in a minute."
            await say(send, 429, said)
            return
        if scope["method"] == "POST":
            body = await read(receive)
            try:
                self._check_body(scope["path"], body)
            except RefusedError as error:
                _LOG.warning("refused POST %s: %s", line(scope["path"]), error)
                await say(send, 404 if isinstance(error, UnknownFunctionError) else 400, str(error))
                return
            receive = again(body, receive)
        answer = Answer(send)
        scope[REFUSALS] = answer.refusals
        try:
            await self.app(scope, receive, answer)
        except Exception as error:
            # Gradio has answered with 500 by now; the traceback would be of its code, and as long as a caller likes.
            fault = line(f"{type(error).__name__}: {error}")
            _LOG.warning("failed %s %s: %s", scope["method"], line(scope["path"]), fault)
            await answer.end()
        if scope["method"] == "POST":
            await self._forget(len(body))

    async def _forget(self, size: int) -> None:
        """Give back what large bodies took: Python collects what failed calls leave, bodies in it, far too late."""
        self._read += size
        if self._read > MAX_REMEMBERED_BYTES:
            self._read = 0
            await asyncio.to_thread(give_memory_back)

    def _refusal(self, scope: Message) -> int:
        """The status that refuses a request for what its head says; 0 where nothing does."""
        if self.hosts is not None and _host(scope) not in self.hosts:
            return 403
        if scope["type"] != "http" or not is_open(scope["path"]):
            return 404
        if is_foreign(dict(scope["headers"])):
            return 403
        path, length = scope["path"].rstrip("/"), _length(scope)
        if length > (MAX_LOGIN_BYTES if path == _LOGIN else MAX_BODY_BYTES):
            return 413
        if scope["method"] in ("GET", "HEAD"):
            return 0
        if scope["method"] != "POST" or not (path in (_JOIN, _LOGIN, *_CANCELS) or path.startswith(_RUN)):
            return 405
        kind = dict(scope["headers"]).get(b"content-type", b"").partition(b";")[0].strip().lower()
        # Browsers send forms and plain text to other origins without asking, but no JSON.
        return 0 if path == _LOGIN or kind == b"application/json" else 415

    def _check_body(self, path: str, body: bytes) -> None:
        path = path.rstrip("/")
        if path in _CANCELS:
            check_cancel(body)
        elif path != _LOGIN:
            # Those without code of their own only make the browser cancel a job.
            coded = {number: function.api_name for number, function in self.page.fns.items() if function.fn}
            check_call(body, [*coded, *coded.values()], path.removeprefix(_RUN) if path.startswith(_RUN) else None)


def is_foreign(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a request comes from a page of another origin, by the `Origin` that browsers add.

    A proxy in front has to pass on the host it is addressed by, in `Host` or `X-Forwarded-Host`; no page can set these
    in a request to another origin without asking first, which is answered with 403.
    """
    origin = headers.get(b"origin")
    if origin is None:
        return False
    own = {headers.get(name, b"").decode("latin-1").lower() for name in (b"host", b"x-forwarded-host")}
    try:
        return urlsplit(origin.decode("latin-1")).netloc.lower() not in own - {""}
    except ValueError:
        return True


def is_open(path: str) -> bool:
    """Whether the page needs a path; `scope["path"]` is percent-decoded already."""
    plain = path.rstrip("/") or "/"
    if ".." in path or "\\" in path or "\0" in path or "//" in path:
        return False
    return plain in _EXACT or plain.startswith(_UNDER)


def _host(scope: Message) -> str:
    """The host that a request is addressed to, without its port."""
    name = dict(scope["headers"]).get(b"host", b"").decode("latin-1").lower()
    return name[: name.rfind(":")] if name.rpartition(":")[2].isdigit() else name


def _length(scope: Message) -> int:
    headers = dict(scope["headers"])
    if scope["method"] in ("GET", "HEAD"):
        return 0
    # Without a length a body has no end that could be checked beforehand.
    text = headers.get(b"content-length", b"")
    return int(text) if text.isdigit() else MAX_BODY_BYTES + 1
