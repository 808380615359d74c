"""The web server's routes that the demo uses; every other one is closed."""

from __future__ import annotations

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
MAX_BODY_BYTES = 2 * 1024 * 1024
"""Of a request: the largest token file in base64, and room to spare."""


class Doors:
    """An ASGI layer that lets through what the page needs, and nothing else.

    Pictures and files travel inside the page's own data, so Gradio's routes that read and write files on this machine
    (`/file=`, `/upload`, `/proxy=`, ...) are not needed: they are answered with 404, whatever path is asked for.
    The page loads nothing from other hosts; the policy in the headers makes the browser hold to that.
    """

    def __init__(self, app: Callable[[Message, Receive, Send], Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer 404 or 413, or pass the request on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] != "http" or not is_open(scope["path"]):
            await _refuse(send, scope["type"], 404)
        elif _length(scope) > MAX_BODY_BYTES:
            await _refuse(send, "http", 413)
        else:
            await self.app(scope, receive, _with_headers(send))


def is_open(path: str) -> bool:
    """Whether the page needs a path; `scope["path"]` is percent-decoded already."""
    plain = path.rstrip("/") or "/"
    if ".." in path or "\\" in path or "\0" in path or "//" in path:
        return False
    return plain in _EXACT or plain.startswith(_UNDER)


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
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"Not here.\n" if status == 404 else b"Too large.\n"})
