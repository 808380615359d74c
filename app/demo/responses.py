"""Requests read whole, and answers sent with the headers of the demo."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

REFUSALS = "countgen.refusals"
"""The key of a request's scope under which its answer's refusals are found."""

MAX_LOGGED = 200
"""Characters of a visitor's in one line of the log."""

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
_SAID = {
    403: b"Not for this host or from another page.\n",
    404: b"Not here.\n",
    405: b"This path takes no such request.\n",
    413: b"Too large.\n",
    415: b"Send application/json.\n",
}


def line(text: object) -> str:
    """What a visitor sent, or caused, as one short line of the log."""
    return ascii(str(text)[:MAX_LOGGED])[1:-1]


class Answer:
    """Sends what the layer below answers, with the headers of this one.

    Attributes:
        refusals: what a function of the page refused while it worked on this request: Gradio answers that with 500,
            and 422 is what is sent.
    """

    def __init__(self, send: Send) -> None:
        self.send = send
        self.refusals: list[str] = []
        self._open = False

    async def __call__(self, message: Message) -> None:
        """Send a message of the layer below."""
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
        """End a stream that was begun and broken off."""
        if self._open:
            self._open = False
            await self.send({"type": "http.response.body", "body": b""})


async def read(receive: Receive) -> bytes:
    """The whole body, whose length was checked beforehand; what there is of it where the visitor has gone."""
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body"):
            return b"".join(parts)


def again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body that was read, and then goes on."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receiving() -> Message:
        return messages.pop() if messages else await receive()

    return receiving


async def refuse(send: Send, kind: str, status: int) -> None:
    """Refuse a request for what its head says; `kind` is its type in ASGI."""
    if kind == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    await _answer(send, status, b"text/plain", _SAID[status])


async def say(send: Send, status: int, sentence: str) -> None:
    """Refuse a request with a reason, which Gradio's page shows."""
    await _answer(send, status, b"application/json", json.dumps({"detail": sentence}).encode())


async def _answer(send: Send, status: int, kind: bytes, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": body})
