"""The number direction of a count token: a move of the prompt embeddings to counts that no number word reaches.

With E(n) the embeddings of a prompt with the number n, (E(hi) - E(lo)) / (hi - lo) is a step of one object, see
`countgen.number_slider.axis`. A token holds the mean of this step over prompts. Prompts differ in length, so it is
reduced to two vectors: one for the positions of the number, and one for all positions after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from countgen.backbones import PromptEmbeds
from countgen.errors import TokenFileError

KEY = "number_direction."
"""The beginning of every key in the file of a token with a direction."""

_NAMES = ("prompt_embeds", "pooled_prompt_embeds")

Span = tuple[int, int]
"""The first position of a token in the prompt embeddings, and the one after its last."""


@dataclass(frozen=True)
class NumberDirection:
    """A move of the prompt embeddings along the number axis, from a number word.

    Attributes:
        start_number: the number word that the move starts from; the token has its input vectors.
        offset: length of the move, in objects; above 0.
        prompt_embeds: float32 (2, D), a step of one object: at the positions of the token, and at each one after it.
        pooled_prompt_embeds: float32 (P,), a step of one object; None for models without a pooled vector.
    """

    start_number: int
    offset: float
    prompt_embeds: Tensor
    pooled_prompt_embeds: Tensor | None = None

    def __post_init__(self) -> None:
        if self.start_number < 1 or not 0 < self.offset < float("inf"):
            raise ValueError(
                "a number direction starts from a number word, by an offset above 0, got "
                f"{self.start_number!r} and {self.offset!r}"
            )
        for name, tensor in tensors_of(self).items():
            shape = (2, *tensor.shape[-1:]) if name == "prompt_embeds" else tensor.shape[-1:]
            valid = tensor.shape == shape and tensor.numel() and tensor.dtype == torch.float32
            if not valid or not torch.isfinite(tensor).all():
                raise ValueError(
                    f"a number direction is float32 (2, D), pooled (P,), and finite; got {name} {tensor.dtype} "
                    f"{tuple(tensor.shape)}"
                )

    def moved(self, embeds: PromptEmbeds, spans: Sequence[Span]) -> PromptEmbeds:
        """Return the embeddings of a prompt, moved from the start number; the negative prompt's stay as they are.

        Args:
            embeds: of the prompt with the start number, (B, L, D).
            spans: of each occurrence of the token; the moves of several add up.

        Raises:
            TokenFileError: the embeddings have another dimension, or only one of the two has a pooled vector.
        """
        if _dims(self) != _dims(embeds):
            raise TokenFileError(
                f"the token moves embeddings of dimension {_dims(self)}; the model's have {_dims(embeds)}"
            )
        # In float32: a step is small beside half-precision embeddings.
        at_number, after = (self.offset * self.prompt_embeds).to(embeds.prompt_embeds.device)
        total = embeds.prompt_embeds.float().clone()
        for first, end in spans:
            total[:, first:end] += at_number
            total[:, end:] += after
        pooled = embeds.pooled_prompt_embeds
        if pooled is not None and self.pooled_prompt_embeds is not None:
            step = len(spans) * self.offset * self.pooled_prompt_embeds
            pooled = (pooled.float() + step.to(pooled.device)).to(pooled.dtype)
        return replace(embeds, prompt_embeds=total.to(embeds.prompt_embeds.dtype), pooled_prompt_embeds=pooled)


def tensors_of(embeds: PromptEmbeds | NumberDirection) -> dict[str, Tensor]:
    """Return the embeddings of a prompt, or the steps that move them, by name."""
    return {name: tensor for name in _NAMES if (tensor := getattr(embeds, name)) is not None}


def to_file(direction: NumberDirection, vectors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a token's file by keys that other programs do not know.

    The vectors alone stand for another number. diffusers and A1111/Forge reject a file of several tensors with unknown
    keys. ComfyUI takes the first one, which is the offset, a single number that fits no encoder, and ignores it with a
    warning.
    """
    offset = torch.tensor([direction.offset], dtype=torch.float32)
    tensors = {"offset": offset} | tensors_of(direction) | {f"start.{key}": value for key, value in vectors.items()}
    return {KEY + key: tensor for key, tensor in tensors.items()}


def from_file(start_number: int, tensors: Mapping[str, Tensor]) -> tuple[NumberDirection, dict[str, Tensor]]:
    """Return the direction and the input vectors from a file's tensors; a ValueError if one is missing or wrong."""
    start = f"{KEY}start."
    vectors = {key.removeprefix(start): tensor for key, tensor in tensors.items() if key.startswith(start)}
    offset, prompt_embeds, pooled = (tensors.get(KEY + name) for name in ("offset", *_NAMES))
    if offset is None or prompt_embeds is None or offset.shape != (1,):
        raise ValueError("a number direction has an offset of one number and prompt_embeds")
    return NumberDirection(start_number, offset.item(), prompt_embeds, pooled), vectors


def _dims(embeds: PromptEmbeds | NumberDirection) -> str:
    return " and ".join(f"{tensor.shape[-1]} ({name})" for name, tensor in tensors_of(embeds).items())
