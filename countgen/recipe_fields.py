"""The fields of a recipe, each checked when it is read: anyone may have written the file that a recipe comes from."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from countgen.backbones import Backbone
from countgen.backbones.preset import MAX_GUIDANCE
from countgen.errors import RecipeError
from countgen.prompts import check_prompt
from countgen.tokens.file import CountToken


def candidate_seed(recipe: Mapping[str, Any]) -> int:
    """Return the seed of the image itself, which a search may have found far from the seed that was given.

    Raises:
        RecipeError: it is missing or not possible.
    """
    return whole_number_of(recipe, "candidate_seed", 2**63 - 1, smallest=0)


def negative_prompt_of(recipe: Mapping[str, Any]) -> str | None:
    """Return the negative prompt of a recipe; None where it has none.

    Raises:
        RecipeError, PromptError: it is no text, or too long.
    """
    if recipe.get("negative_prompt") is None:
        return None
    text = text_of(recipe, "negative_prompt")
    if text:
        check_prompt(text)
    return text


def latents_of(recipe: Mapping[str, Any], backbone: Backbone) -> Tensor:
    """Return the latents that a recipe holds, otherwise those of its seed: float32 (1, C, h, w).

    Raises:
        RecipeError: they are damaged or of another shape than the backbone's, or the seed is missing.
    """
    stored = recipe.get("latents")
    if stored is not None:
        return _latents(stored, backbone)
    return backbone.initial_latents([candidate_seed(recipe)])


def check_token(named: Any, token: CountToken | None) -> None:
    """Refuse a token whose vectors are not those that the recipe names."""
    wanted = None if named is None else text_of(named if isinstance(named, dict) else {}, "sha256")
    given = None if token is None else token.sha256
    if wanted != given:
        raise RecipeError(
            f"the image was generated with {_described(wanted)}, got {_described(given)}; give the token's "
            "file or shipped name"
        )


def text_of(recipe: Mapping[str, Any], name: str) -> str:
    """Return a text field; another value is a `RecipeError`, for the fields below too."""
    value: str = _field(recipe, name, str)
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise RecipeError(f"the recipe's {name} is {shown(value)}, which is no text: it holds half a surrogate pair")
    return value


def whole_number_of(recipe: Mapping[str, Any], name: str, largest: int, *, smallest: int = 1) -> int:
    """Return a whole number from `smallest` to `largest`."""
    value: int = _field(recipe, name, int)
    if not smallest <= value <= largest:
        raise RecipeError(f"the recipe's {name} is {shown(value)}, expected {smallest} to {largest}")
    return value


def choice_of(recipe: Mapping[str, Any], name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """Return a text field that is one of those known."""
    value = text_of(recipe, name)
    if value not in known:
        raise RecipeError(f"the recipe's {name} is {shown(value)}; known: {', '.join(known)}")
    return value


def guidance_of(recipe: Mapping[str, Any]) -> float:
    """Return the guidance scale, from 0 to `MAX_GUIDANCE`."""
    value = recipe.get("guidance_scale")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_GUIDANCE:
        raise RecipeError(f"the recipe's guidance_scale is {shown(value)}, expected a number from 0 to {MAX_GUIDANCE}")
    return float(value)


def _latents(stored: Any, backbone: Backbone) -> Tensor:
    """Return stored latents as float32 (1, C, h, w)."""
    shape, values = backbone.latent_shape, latent_values(stored)
    if stored.get("shape") != list(shape) or values.size != math.prod(shape):
        raise RecipeError(f"the recipe's latents are not the {list(shape)} finite numbers that {backbone.name} needs")
    return torch.from_numpy(values.reshape(1, *shape).astype(np.float32)).to(backbone.device)


def latent_values(stored: Any) -> np.ndarray[Any, Any]:
    """Return the numbers of stored latents."""
    try:
        values = np.frombuffer(base64.b64decode(stored["float32"], validate=True), "<f4")
    except (TypeError, KeyError, ValueError, binascii.Error) as error:
        raise RecipeError(f"the recipe's latents are not base64 of float32: {shown(str(error))}") from error
    if not np.isfinite(values).all():
        raise RecipeError("the recipe's latents are not finite numbers")
    return values


def _described(sha256: str | None) -> str:
    return "no token" if sha256 is None else f"a token whose vectors have the SHA-256 {shown(sha256[:12])}..."


def _field(recipe: Mapping[str, Any], name: str, kind: type) -> Any:
    value = recipe.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise RecipeError(
            f"the recipe's {name} is {shown(value)}, expected {kind.__name__}; no image can be generated from it"
        )
    return value


def shown(value: Any) -> str:
    """Return a value of the file as messages quote it: escaped and short."""
    try:
        text = ascii(value)
    except RecursionError:
        return "too deeply nested"
    return text if len(text) <= 60 else f"{text[:57]}..."
