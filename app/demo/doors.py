"""The web server's routes that the demo uses; every other one is closed."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_EXACT = frozenset(
    "/ /config /theme.css /favicon.ico /robots.txt /manifest.json /login /logout /gradio_api/theme.css "
    "/gradio_api/app_id /gradio_api/user /gradio_api/token /gradio_api/login_check /gradio_api/info "
    "/gradio_api/startup-events /gradio_api/queue/join /gradio_api/queue/data /gradio_api/cancel "
    "/gradio_api/reset".split()
)
_UNDER = ("/assets/", "/static/", "/gradio_api/heartbeat/", "/gradio_api/run/")
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'self'; "
    "frame-ancestors 'self'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
_JOIN = "/gradio_api/queue/join"
_SAID = {403: b"Not for this host.\n", 404: b"Not here.\n", 413: b"Too large.\n"}
MAX_BODY_BYTES = 2 * 1024 * 1024
"""Of a request: the largest token file in base64, and room to spare."""


class Doors:
    """An ASGI layer that lets through what the page needs, and nothing else.

    Pictures and files travel inside the page's own data, so Gradio's routes that read and write files on this machine
    (`/file=`, `/upload`, `/proxy=`, ...) are not needed: they are answered with 404, whatever path is asked for.
    The page loads nothing from other hosts; the policy in the headers makes the browser hold to that.

    Args:
        app: the layer below.
        hosts: the names this server goes by; a request to any other is refused, because a page of another site can
            have its own name lead here and so speak for the visitor (DNS rebinding). None for any.
        queue: Gradio's, with its length and `max_size`: Gradio's page would not say how many wait.
    """

    def __init__(
        self,
        app: Callable[[Message, Receive, Send], Awaitable[None]],
        hosts: frozenset[str] | None = None,
        queue: Any = None,
    ) -> None:
        self.app, self.hosts, self.queue = app, hosts, queue

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer 403, 404, 413 or 429, or pass the request on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif self.hosts is not None and _host(scope) not in self.hosts:
            await _refuse(send, scope["type"], 403)
        elif scope["type"] != "http" or not is_open(scope["path"]):
            await _refuse(send, scope["type"], 404)
        elif _length(scope) > MAX_BODY_BYTES:
            await _refuse(send, "http", 413)
        elif scope["path"] == _JOIN and self.queue is not None and len(self.queue) >= self.queue.max_size:
            said = f"{len(self.queue)} pictures and tokens are waited for already; try again in a minute."
            await _answer(send, 429, b"application/json", json.dumps({"detail": said}).encode())
        else:
            await self.app(scope, receive, _with_headers(send))


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


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *_HEADERS]
        await send(message)

    return sending


async def _refuse(send: Send, kind: str, status: int) -> None:
    if kind == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    await _answer(send, status, b"text/plain", _SAID[status])


async def _answer(send: Send, status: int, kind: bytes, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": body})
