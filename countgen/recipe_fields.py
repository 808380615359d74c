"""The schema of a recipe: anyone may have written the file that a recipe comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
import torch
from msgspec import Meta
from torch import Tensor

from countgen.backbones import Backbone
from countgen.backbones.preset import MAX_GUIDANCE
from countgen.errors import RecipeError
from countgen.files.printable import printable
from countgen.files.schema import Document, Name, Whole, converted
from countgen.number_slider import NumberShift
from countgen.number_slider.shifts import check_spans
from countgen.prompts import Prompt, Target, check_prompt

SCHEMA = 2
"""Version of the recipes that `countgen.recipe.write` writes, and the only one that is read."""
MAX_INFERENCE_STEPS = 1000
MAX_SIDE = 4096

Side = Annotated[int, Meta(ge=1, le=MAX_SIDE)]


class StoredLatents(Document, frozen=True):
    """Latents that gradients have moved.

    Attributes:
        shape: (C, h, w).
        float32: the values, little-endian; base64 in the file.
    """

    shape: list[Whole]
    float32: bytes

    def __post_init__(self) -> None:
        if len(self.float32) != 4 * math.prod(self.shape) or not np.isfinite(np.frombuffer(self.float32, "<f4")).all():
            raise ValueError(f"the values are not finite numbers of the shape {self.shape}")

    @classmethod
    def of(cls, latents: Tensor) -> StoredLatents:
        """Return latents (C, h, w) as a recipe holds them."""
        return cls(shape=list(latents.shape), float32=latents.float().cpu().numpy().astype("<f4").tobytes())


class StoredToken(Document, frozen=True):
    """The count token of an image, see `countgen.tokens.file.CountToken`."""

    placeholder_token: Name
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Recipe(Document, frozen=True, kw_only=True):
    """The fields of a recipe, as `countgen.recipe.write` writes them.

    Attributes:
        candidate_seed: of the image itself, which a search may have found far from `seed`, the seed that was given.
        latents: those of `candidate_seed` where None.
    """

    schema: Literal[2]
    prompt: str
    backbone: Annotated[str, Meta(max_length=255)]
    num_inference_steps: Annotated[int, Meta(ge=0, le=MAX_INFERENCE_STEPS)]
    guidance_scale: Annotated[float, Meta(ge=0, le=MAX_GUIDANCE)]
    height: Side
    width: Side
    dtype: Literal["float32", "float16", "bfloat16"]
    memory: Literal["fast", "low"]
    candidate_seed: Whole
    repository: str | None = None
    revision: str | None = None
    family: str | None = None
    scheduler: Annotated[str, Meta(max_length=60)] | None = None
    sampler: str | None = None
    loras: tuple[dict[str, str | float], ...] = ()
    changed_parts: tuple[str, ...] = ()
    negative_prompt: str | None = None
    deterministic: bool = False
    token: StoredToken | None = None
    number_shifts: tuple[NumberShift, ...] = ()
    latents: StoredLatents | None = None
    targets: tuple[Target, ...] = ()
    # What the image was, which does not change how it is generated.
    method: str | None = None
    settings: dict[str, Any] | None = None
    seed: Whole | None = None
    until: str | None = None
    sure: float | None = None
    draft: bool = False
    critics: tuple[str, ...] = ()
    judge: str | None = None
    counts: tuple[int, ...] = ()
    judge_counts: tuple[int, ...] | None = None
    probability: float | None = None
    confirmed: bool | None = None
    evaluations: Whole | None = None
    versions: dict[str, str | None] | None = None
    detectors_chosen: str | None = None

    def __post_init__(self) -> None:
        prompt = Prompt(self.prompt)
        if self.negative_prompt:
            check_prompt(self.negative_prompt)
        if self.number_shifts and self.token is not None:
            raise ValueError("it names a token and number_shifts; an image is made with one of them")
        check_spans(self.number_shifts, prompt)

    def latents_for(self, backbone: Backbone) -> Tensor:
        """Return the latents that the image is generated from, float32 (1, C, h, w).

        Raises:
            RecipeError: they have another shape than the backbone's.
        """
        if self.latents is None:
            return backbone.initial_latents([self.candidate_seed])
        if self.latents.shape != list(backbone.latent_shape):
            raise RecipeError(
                f"the recipe's latents have the shape {self.latents.shape}, {backbone.name} needs "
                f"{list(backbone.latent_shape)}"
            )
        values = np.frombuffer(self.latents.float32, "<f4").astype(np.float32)
        return torch.from_numpy(values.reshape(1, *self.latents.shape)).to(backbone.device)


def fields_of(recipe: Mapping[str, Any]) -> Recipe:
    """Return the fields of a recipe, checked.

    Raises:
        RecipeError: not a recipe, one of another version, or a field that is missing, unknown or not possible.
    """
    if not isinstance(recipe, Mapping):
        raise RecipeError(
            f"expected a result or a recipe, got {type(recipe).__name__}; countgen.images.read_recipe reads the recipe "
            "inside a PNG"
        )
    if recipe.get("schema") != SCHEMA:
        raise RecipeError(
            f"the recipe has the schema {printable(recipe.get('schema'), 60)}, this version reads {SCHEMA}"
        )
    try:
        return converted(dict(recipe), Recipe)
    except ValueError as error:
        raise RecipeError(f"the recipe cannot be used: {error}") from error
