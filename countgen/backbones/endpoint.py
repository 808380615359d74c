"""Models behind a server with the OpenAI images interface, `POST URL/images/generations`: one image for each seed."""

from __future__ import annotations

import asyncio
import random
import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any, ClassVar
from urllib.parse import urlsplit

import httpx
import torch
from anyio.from_thread import start_blocking_portal
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from countgen.backbones.images_client import KEY_VARIABLE, fetch, file_in, headers, refusal_in
from countgen.backbones.preset import Preset
from countgen.backbones.seeds_only import SeedsOnly
from countgen.errors import EndpointError
from countgen.files.image_file import decode_image
from countgen.files.printable import printable

MAX_TRIES, MAX_WAIT = 5, 60.0
SECONDS = 600.0
"""How long an image may take, with all tries."""
AGAIN = (408, 409, 429, 500, 502, 503, 504)
"""Statuses after which a request is repeated, as OpenAI's own client does."""
OPTIONAL = {"seed", "response_format"}
"""Fields that some servers do not know; they are left out once a server says so."""


@dataclass(frozen=True)
class ServerPreset(Preset):
    """A model on a server. 0 steps, and a guidance of 0, are the server's own.

    Attributes:
        urls: of servers that share the load, with the version, such as "http://127.0.0.1:8000/v1".
        model: its name there.
    """

    remote: ClassVar[bool] = True
    least_steps: ClassVar[int] = 0

    urls: tuple[str, ...] = ()
    model: str = ""


def preset_of(text: str, changes: Mapping[str, Any]) -> ServerPreset:
    """Return the preset of "endpoint:URL#MODEL", or of "endpoint:URL+URL#MODEL" for servers that share the load.

    Raises:
        ValueError: another form, or a setting that a server does not take.
    """
    places, _, model = text.removeprefix("endpoint:").partition("#")
    urls = tuple(place.rstrip("/") for place in re.split(r"\+(?=https?:)", places))
    parts = [urlsplit(url) for url in urls]
    if not model or any(part.scheme not in ("http", "https") or not part.hostname or "@" in part[1] for part in parts):
        raise ValueError(
            f"a model behind a server is endpoint:URL#MODEL, such as endpoint:http://127.0.0.1:8000/v1#NAME with a "
            f"name that GET URL/models lists, got {printable(text.rpartition('@')[2], 200)!r}; a key stands in the "
            f"environment variable {KEY_VARIABLE}, never in the address"
        )
    usual = {"num_inference_steps": 0, "guidance_scale": 0.0, "height": 1024, "width": 1024}
    if others := changes.keys() - usual.keys():
        raise ValueError(
            f"a server takes {', '.join(usual)} of a model, got {', '.join(sorted(others))}; leave that out"
        )
    licence = "not known here; see the server's terms"
    return ServerPreset(f"endpoint:{model}", **{**usual, **changes}, licence=licence, urls=urls, model=model)


class Endpoint(SeedsOnly):
    """A model on one or several servers.

    Attributes:
        left_out: fields of `OPTIONAL` that a server did not know.
    """

    preset: ServerPreset

    def __init__(self, preset: ServerPreset, name: str, device: torch.device) -> None:
        super().__init__(SimpleNamespace(components={}), preset, name, device)
        self.chosen = "the server's own settings"
        self.left_out: set[str] = set()

    @property
    def sampler(self) -> str:
        """What records call the sampler."""
        return "server"

    @property
    def batch_size(self) -> int:
        """Two requests on their way to each server."""
        return 2 * len(self.preset.urls)

    @property
    def repeatable(self) -> bool:
        """Whether the server takes a seed."""
        return "seed" not in self.left_out

    @cached_property
    def _certificates(self) -> ssl.SSLContext:
        return httpx.create_ssl_context()  # reads a file of all authorities

    def images(
        self, prompt: str, negative_prompt: str | None, seeds: Sequence[int], check: Callable[[], object]
    ) -> Tensor:
        """Return the images, all requested at once.

        Raises:
            EndpointError: a server gives no image of the size that was asked for.
        """
        fields = {"model": self.preset.model, "prompt": prompt, "n": 1, "size": f"{self.width}x{self.height}"}
        sampling = {"num_inference_steps": self.num_inference_steps, "guidance_scale": self.guidance_scale}
        fields |= {name: value for name, value in sampling.items() if value} | {"response_format": "b64_json"}
        fields |= {} if negative_prompt is None else {"negative_prompt": negative_prompt}
        with start_blocking_portal() as portal:  # an error ends the requests that are on their way
            tasks = [portal.start_task_soon(self._image, fields | {"seed": seed % 2**32}) for seed in seeds]
            while wait(tasks, timeout=0.1, return_when=FIRST_EXCEPTION).not_done:
                check()
                for task in tasks:
                    if task.done():
                        task.result()
            return torch.stack([task.result() for task in tasks])

    async def _image(self, fields: dict[str, Any]) -> Tensor:
        client = httpx.AsyncClient(verify=self._certificates, timeout=SECONDS / 2, headers=headers())
        try:
            async with asyncio.timeout(SECONDS), client:
                image = decode_image(await self._file(client, fields), "the image", self.width * self.height)
            if image.size != (self.width, self.height):
                raise ValueError(f"the image has {image.width} x {image.height} pixels")
        except TimeoutError as error:
            raise EndpointError(f"{self.name} gave no image within {SECONDS:g} s") from error
        except ValueError as error:
            raise EndpointError(f"{self.name}, asked for an image of {fields['size']} pixels: {error}") from error
        return pil_to_tensor(image).float() / 255

    async def _file(self, client: httpx.AsyncClient, fields: dict[str, Any]) -> bytes:
        """Return the image file that a server gives; a ValueError says what it gave instead."""
        urls, reason = self.preset.urls, ""
        for attempt in range(MAX_TRIES):
            url = urls[(fields["seed"] + attempt) % len(urls)]
            sent = {name: value for name, value in fields.items() if name not in self.left_out}
            pause = 2.0**attempt / 2 * random.uniform(0.75, 1)
            try:
                response, content = await fetch(client, "POST", f"{url}/images/generations", self._most, json=sent)
            except httpx.TransportError as error:
                reason = f"no answer from the server: {printable(error, 200) or type(error).__name__}"
            else:
                if response.is_success:
                    return await file_in(content, client, url, self._most)
                refusal = refusal_in(content)
                reason = f"the server answered {response.status_code}: {refusal.message}"
                unknown = OPTIONAL & {str(refusal.param), *re.findall(r"\w+", refusal.message)} - self.left_out
                if unknown and response.status_code in (400, 422):
                    self.left_out |= unknown
                    continue
                if response.status_code not in AGAIN:
                    break
                if (seconds := response.headers.get("retry-after", "")).isdecimal():
                    pause = min(MAX_WAIT, float(seconds))
            await asyncio.sleep(pause if attempt < MAX_TRIES - 1 else 0)
        raise ValueError(reason)

    @property
    def _most(self) -> int:
        """Bytes of an answer: 16-bit RGBA in base64, and a recipe."""
        return 2**23 + 12 * self.width * self.height


BACKBONE = load = Endpoint
PRESETS: dict[str, Preset] = {}
