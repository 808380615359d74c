"""Read whole request bodies, and send responses with the demo's security headers."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

REFUSALS = "countgen.refusals"
"""Key of the ASGI scope that holds the list of refusals of this request."""

MAX_LOGGED = 200
"""Number of characters of visitor-supplied text in one line of the log."""

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
_STATUS_TEXTS = {
    403: b"This host name or origin is not allowed.\n",
    404: b"Not found.\n",
    405: b"This path does not accept this method.\n",
    413: b"The request body is too large.\n",
    415: b"Send application/json.\n",
}


def log_line(text: object) -> str:
    """Return visitor-supplied text as one short, escaped line for the log."""
    return ascii(str(text)[:MAX_LOGGED])[1:-1]


class ResponseSender:
    """Send the response of the wrapped application with the demo's headers.

    Attributes:
        refusals: messages of refusals raised by the page's functions during this request; Gradio responds to these
            with status 500, which is replaced by 422.
    """

    def __init__(self, send: Send) -> None:
        self.send = send
        self.refusals: list[str] = []
        self._open = False

    async def __call__(self, message: Message) -> None:
        """Send an ASGI message of the wrapped application."""
        if message["type"] == "http.response.start":
            kept = [pair for pair in message["headers"] if not pair[0].lower().startswith(b"access-control-")]
            message["headers"] = [*kept, *_HEADERS]
            self._open = all(name.lower() != b"content-length" for name, _ in kept)
            if message["status"] == 500 and self.refusals:
                message["status"] = 422
        elif not message.get("more_body"):
            self._open = False
        await self.send(message)

    async def end(self) -> None:
        """End a response that was started and not completed."""
        if self._open:
            self._open = False
            await self.send({"type": "http.response.body", "body": b""})


async def read_body(receive: Receive) -> bytes:
    """Return the whole body, whose length was checked beforehand, or its first part if the client disconnected."""
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body"):
            return b"".join(parts)


def replay_body(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that first delivers a body that was already read."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed


async def send_status(send: Send, scope_type: str, status: int) -> None:
    """Refuse a request because of its headers; `scope_type` is "http" or "websocket"."""
    if scope_type == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    await _send(send, status, b"text/plain", _STATUS_TEXTS[status])


async def send_error(send: Send, status: int, message: str) -> None:
    """Refuse a request with a message that Gradio's page shows."""
    await _send(send, status, b"application/json", json.dumps({"detail": message}).encode())


async def _send(send: Send, status: int, content_type: bytes, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", content_type)]})
    await send({"type": "http.response.body", "body": body})
