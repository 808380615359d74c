"""Checks of HTTP requests by their head, and a time limit for their bodies; the demo and the gateway share them."""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from starlette.requests import Request

_LOG = logging.getLogger(__name__)


def is_foreign(request: Request, hosts: Collection[str] | None) -> bool:
    """Return whether a request comes from a page of another origin, or asks for another host.

    Args:
        request: of which only the head is read.
        hosts: accepted names of this server, against DNS rebinding; None accepts any.
    """
    host, origin = request.headers.get("host", "").lower(), request.headers.get("origin")
    own = {host, request.headers.get("x-forwarded-host", "").lower()} - {""}
    if origin is not None and origin.lower().partition("://")[2] not in own:
        return True
    return hosts is not None and re.sub(r":\d+$", "", host) not in hosts


def body_refusal(request: Request, max_bytes: int, *, as_json: bool = True) -> tuple[int, str] | None:
    """Return status and reason if a body is not read, by what the head says of it."""
    length = request.headers.get("content-length", "")
    if not length.isdigit() or "transfer-encoding" in request.headers:
        return 411, "Give the length of the body."
    if int(length) > max_bytes:
        return 413, "The request body is too large."
    # Browsers send forms and plain text to another origin without asking, but not JSON.
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if as_json and kind != "application/json":
        return 415, "Send application/json."
    return None


async def pass_on(
    app: Any,
    scope: Any,
    receive: Any,
    send: Any,
    *,
    seconds: float,
    headers: Mapping[str, str],
    status_of: Callable[[int], int] = lambda status: status,
) -> None:
    """Pass on a request whose body must arrive in time, and answer it with further headers.

    Args:
        app, scope, receive, send: of ASGI.
        seconds: how long the body may take; after that the answer is 408.
        headers: of the answer; those of CORS are removed.
        status_of: the status in place of one of the application's.
    """
    until, late = asyncio.get_running_loop().time() + seconds, False

    async def receive_in_time() -> Any:
        nonlocal until, late
        try:
            async with asyncio.timeout_at(until):
                message = await receive()
        except TimeoutError:
            late, message = True, {"type": "http.disconnect"}
        until = until if message.get("more_body") else math.inf
        return message

    async def send_checked(message: Any) -> None:
        if message["type"] == "http.response.start":
            kept = [pair for pair in message["headers"] if not pair[0].lower().startswith(b"access-control-")]
            own = [(name.encode(), value.encode()) for name, value in headers.items()]
            message = message | {"headers": kept + own, "status": 408 if late else status_of(message["status"])}
        await send(message)

    try:
        await app(scope, receive_in_time, send_checked)
    except Exception as error:  # the application has answered with 500; a caller controls the length of the message
        _LOG.warning("failed %s %.200a: %.200a", scope["method"], scope["path"], str(error))
