"""Base of backbones whose images are a function of prompt and seed alone, without latents or gradient."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from countgen.backbones.base import Backbone
from countgen.backbones.preset import Preset
from countgen.backbones.prompt_embeds import PromptEmbeds


class SeedsOnly(Backbone):
    """A model that is asked for the image of a prompt and a seed, and returns pixels.

    Its latents are the seeds themselves, int64 (B, 1, 1, 1), and its prompt embeddings are the bytes of the text. A
    method that only looks at images works with it, see `countgen.methods.registry.Method.seeds_only`.

    Args:
        pipeline: has `components`, which may be empty.
        preset, name: as of `Backbone`.
        device: where the images are returned.
    """

    seeds_only = True

    def __init__(self, pipeline: Any, preset: Preset, name: str, device: torch.device) -> None:
        super().__init__(pipeline, preset, name)
        self._device = device

    @abstractmethod
    def images(
        self, prompt: str, negative_prompt: str | None, seeds: Sequence[int], check: Callable[[], object]
    ) -> Tensor:
        """Return the images of a prompt, RGB float32 (B, 3, H, W) in [0, 1].

        `check` is called now and then; its error ends the rendering.
        """

    @property
    def size_step(self) -> int:
        """The number of pixels that height and width must be multiples of, as far as it is known here."""
        return 1

    @property
    def device(self) -> torch.device:
        """The device of the images."""
        return self._device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the images."""
        return torch.float32

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """The shape of a seed."""
        return 1, 1, 1

    def check_negative_prompt(self, negative_prompt: str | None) -> None:
        """Accept any: whether it has an effect is not known here."""

    def embed(self, prompt: str, negative_prompt: str | None = None) -> PromptEmbeds:
        """Return the bytes of the texts, uint8 (1, L)."""
        negative = None if negative_prompt is None else _as_bytes(negative_prompt)
        return PromptEmbeds(_as_bytes(prompt), negative_prompt_embeds=negative)

    def predict(self, latents: Tensor, timestep: Tensor, embeds: PromptEmbeds) -> Tensor:
        """Raise: only whole images are returned."""
        raise ValueError(f"{self.name} returns whole images, without latents or gradient")

    def initial_latents(self, seeds: Sequence[int]) -> Tensor:
        """Return the seeds, int64 (B, 1, 1, 1)."""
        return torch.tensor(list(seeds), dtype=torch.int64).reshape(-1, 1, 1, 1)

    def render(
        self, latents: Tensor, embeds: PromptEmbeds, seeds: Sequence[int] | None = None, *, draft: bool = False
    ) -> Tensor:
        """Return the images of the seeds in `latents`; arguments as of `Backbone.render`."""
        return self._of(latents, embeds, lambda: None)

    def render_in_parts(
        self,
        latents: Tensor,
        embeds: PromptEmbeds,
        seeds: Sequence[int],
        *,
        draft: bool = False,
        check: Callable[[], object] = lambda: None,
    ) -> tuple[Tensor, Tensor]:
        """Return the images of the seeds in `latents`, and the latents."""
        return self._of(latents, embeds, check), latents

    def _of(self, latents: Tensor, embeds: PromptEmbeds, check: Callable[[], object]) -> Tensor:
        check()
        negative = embeds.negative_prompt_embeds
        texts = _text_of(embeds.prompt_embeds), None if negative is None else _text_of(negative)
        return self.images(*texts, latents.flatten().tolist(), check).to(self.device)

    def save_memory(self) -> None:
        """Set `memory` to "low", which changes nothing else here."""
        self.memory = "low"

    def move_to(self, device: str | torch.device) -> None:
        """Return images on another device from now on."""
        self._device = torch.device(device)


def _as_bytes(text: str) -> Tensor:
    return torch.tensor([list(text.encode())], dtype=torch.uint8)


def _text_of(embeds: Tensor) -> str:
    return bytes(embeds[0].tolist()).decode()
