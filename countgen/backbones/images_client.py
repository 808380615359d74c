"""Requests to a server with the OpenAI images interface, and what its answers hold; a server is not trusted."""

from __future__ import annotations

import base64
import os
import re
from typing import Annotated, Any
from urllib.parse import urljoin, urlsplit

import httpx
from msgspec import Meta, Struct

from countgen.files.printable import printable
from countgen.files.schema import decoded

KEY_VARIABLE = "COUNTGEN_ENDPOINT_KEY"
"""Sent as a bearer token, and never stored. Other users of a machine can read command lines, not environments."""


class _Item(Struct):
    b64_json: str | None = None
    url: str | None = None


class _Answer(Struct):
    data: Annotated[list[_Item], Meta(min_length=1)]


class Refusal(Struct):
    """Why a server refuses, and the field that it does not take."""

    message: str
    param: str | None = None


class _Error(Struct):
    error: Refusal


def headers() -> dict[str, str]:
    """Return the headers of every request.

    Raises:
        ValueError: a key that no header can hold; the HTTP library's own message would show it.
    """
    key = os.environ.get(KEY_VARIABLE, "")
    if not re.fullmatch("[!-~]*", key):
        raise ValueError(f"{KEY_VARIABLE} holds characters that no key has; give it without spaces and line breaks")
    return {"accept-encoding": "identity"} | ({"authorization": f"Bearer {key}"} if key else {})


async def fetch(
    client: httpx.AsyncClient, method: str, url: str, most: int, **body: Any
) -> tuple[httpx.Response, bytes]:
    """Return a response and its content, at most `most` bytes; redirects are not followed.

    Raises:
        ValueError: the content is longer.
        httpx.TransportError: no answer.
    """
    content = bytearray()
    async with client.stream(method, url, **body) as response:
        async for part in response.aiter_raw():
            content += part
            if len(content) > most:
                raise ValueError(f"the server's answer has more than {most} bytes")
    return response, bytes(content)


async def file_in(answer: bytes, client: httpx.AsyncClient, url: str, most: int) -> bytes:
    """Return the image file in an answer, or behind the address in it, if that is on the same server.

    Raises:
        ValueError: another answer, or an address elsewhere.
    """
    try:
        (item, *_) = decoded(answer, _Answer).data
    except ValueError as error:
        raise ValueError(f"the server's answer is not of the images interface: {error}") from error
    if item.b64_json is not None:
        return base64.b64decode(item.b64_json, validate=True)
    address = urljoin(f"{url}/", item.url or "")
    if item.url is None or urlsplit(address)[:2] != urlsplit(url)[:2]:
        raise ValueError("the server's answer holds no image, or the address of one elsewhere, which is not fetched")
    response, content = await fetch(client, "GET", address, most)
    if not response.is_success:
        raise ValueError(f"the image's address answered {response.status_code}")
    return content


def refusal_in(answer: bytes) -> Refusal:
    """Return what a server says is wrong, without the key that some repeat."""
    try:
        refusal = decoded(answer, _Error).error
    except ValueError:
        refusal = Refusal(answer[:200].decode(errors="replace"))
    key = os.environ.get(KEY_VARIABLE, "")
    message = refusal.message.replace(key, "...") if key else refusal.message
    return Refusal(printable(message, 200), refusal.param)
