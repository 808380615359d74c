"""The recipe of a picture: all that is needed to draw it again, as JSON, and the drawing itself."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor

import countgen
from countgen import backbones
from countgen.backbones import Backbone
from countgen.backbones.base import MEMORY
from countgen.backbones.registry import configured, find, presets, public_name
from countgen.errors import RecipeError
from countgen.methods.settings import Settings, as_dict
from countgen.methods.step import Step
from countgen.models import Models
from countgen.number_slider import NumberShift, encode_shifted
from countgen.number_slider.shifts import stored_shifts
from countgen.prompts import Target
from countgen.tokens.file import CountToken

SCHEMA = 2
"""Of what `write` writes; `redraw` reads 1 as well, which knew nothing of repositories, memory and versions."""

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
MAX_INFERENCE_STEPS = 1000
MAX_SIDE = 4096
_PARTS = ("denoiser", "vae", "scheduler", "scheduler_options", "timesteps", "max_sequence_length")
"""Fields of a preset that decide about pixels and that no recipe may set, since some name files."""
_NOT_OF_THE_PLAIN = (
    "settings",
    "token",
    "number_shifts",
    "latents",
    "counts",
    "judge_counts",
    "confirmed",
    "evaluations",
)


def write(
    *,
    prompt: str,
    targets: Sequence[Target],
    method: str,
    settings: Settings,
    seed: int,
    until: str,
    models: Models,
    best: Step,
    judge_counts: Sequence[int],
    token: CountToken | None = None,
    shifts: Sequence[NumberShift] = (),
) -> dict[str, Any]:
    """Everything that is needed to draw `best` again, and what was found out about it; JSON-able."""
    backbone = models.backbone
    recipe: dict[str, Any] = {
        "schema": SCHEMA,
        "prompt": prompt,
        "targets": [asdict(target) for target in targets],
        "method": method,
        "settings": as_dict(settings),
        "seed": seed,
        "until": until,
        "backbone": backbone.name,
        "repository": public_name(backbone.preset.repository),
        "revision": backbone.preset.revision,
        "num_inference_steps": backbone.num_inference_steps,
        "guidance_scale": backbone.guidance_scale,
        "height": backbone.height,
        "width": backbone.width,
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "memory": backbone.memory,
        "draft": backbone.tiny_vae is not None,
        "critics": [critic.name for critic in models.critics],
        "judge": models.judge.name,
        "counts": list(best.counts),
        "judge_counts": list(judge_counts),
        "confirmed": best.confirmed,
        "candidate_seed": best.seed,
        "evaluations": best.evaluations,
        "versions": versions(),
    }
    if changed := _changed_parts(backbone):
        recipe["changed_parts"] = changed
    if token is not None:
        recipe["token"] = {"placeholder_token": token.placeholder_token, "sha256": token.sha256}
    if shifts:
        recipe["number_shifts"] = [shift.as_dict() for shift in shifts]
    if best.phase == "refine":
        # Latents that gradients moved follow from no seed: they are kept, little-endian float32.
        raw = best.latents.float().cpu().contiguous().numpy().astype("<f4").tobytes()
        recipe["latents"] = {"shape": list(best.latents.shape), "float32": base64.b64encode(raw).decode("ascii")}
    return recipe


def _changed_parts(backbone: Backbone) -> list[str]:
    """Parts that are not those its preset has at this number of steps."""
    preset = backbone.preset
    if backbone.name not in presets():
        return []
    own = find(backbone.name)[1].repository
    repository = None if preset.repository == own else preset.repository
    usual = configured(backbone.name, repository=repository, num_inference_steps=preset.num_inference_steps)
    return [part for part in _PARTS if getattr(preset, part) != getattr(usual, part)]


def versions() -> dict[str, str]:
    """Of what decides about pixels."""
    stock = {name: version(name) for name in ("diffusers", "transformers")}
    # Torch's own word names its build as well, "2.14.1+cu130".
    return {"countgen": countgen.__version__, "torch": str(torch.__version__), **stock}


def changed_versions(recipe: Mapping[str, Any]) -> dict[str, tuple[str | None, str]]:
    """What a recipe was drawn with, and what is here, by library, where the two differ."""
    then = recipe.get("versions")
    then = then if isinstance(then, dict) else {}
    return {name: (then.get(name), here) for name, here in versions().items() if then.get(name) != here}


def plain(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe of the picture "before": the same prompt and seed, no token, nothing tuned."""
    kept = {key: value for key, value in recipe.items() if key not in _NOT_OF_THE_PLAIN}
    return kept | {"method": "plain", "candidate_seed": recipe["seed"]}


def load_backbone(
    recipe: Mapping[str, Any], *, device: str | torch.device = "cpu", repository: str | None = None
) -> Backbone:
    """The backbone that drew a picture, as it was set then.

    A recipe comes from a file, which anyone may have written: it can name a preset, never a repository or a path.

    Args:
        recipe: as `write` writes it.
        device: where to draw.
        repository: what the picture was drawn with, where that was not the preset's own.

    Raises:
        RecipeError: a field is missing or not possible, or the picture was drawn with another repository or parts.
        ValueError: no such preset.
    """
    if recipe.get("schema") not in range(1, SCHEMA + 1):
        raise RecipeError(f"the recipe has the schema {recipe.get('schema')!r}, this version draws 1 to {SCHEMA}")
    name = _field(recipe, "backbone", str)
    preset = find(name)[1]
    named = recipe.get("repository")
    if repository is None and named is not None and named != public_name(preset.repository):
        raise RecipeError(
            f"the picture was drawn with {named!r} and {name} is {public_name(preset.repository)!r}: give repository=, "
            "on the command line --repository, the one it was drawn with"
        )
    if recipe.get("changed_parts"):
        raise RecipeError(
            f"the picture was drawn with another {recipe['changed_parts']!r} than {name} has: load the backbone as it "
            "was loaded then, and give it to countgen.recipe.redraw"
        )
    dtype = _choice(recipe, "dtype", DTYPES)
    memory = _choice(recipe, "memory", MEMORY) if "memory" in recipe else "fast"
    changes: dict[str, Any] = {
        "num_inference_steps": _whole(recipe, "num_inference_steps", MAX_INFERENCE_STEPS),
        "guidance_scale": _finite(recipe, "guidance_scale"),
        "height": _whole(recipe, "height", MAX_SIDE),
        "width": _whole(recipe, "width", MAX_SIDE),
    }
    if recipe.get("revision") is not None:
        changes["revision"] = _field(recipe, "revision", str)
    return backbones.load(name, repository=repository, device=device, dtype=DTYPES[dtype], memory=memory, **changes)


@torch.no_grad()
def redraw(recipe: Mapping[str, Any], backbone: Backbone, token: CountToken | None = None) -> Tensor:
    """Draw the picture of a recipe again: RGB float32 (3, H, W) in [0, 1].

    Bit-equal after rounding to 8 bits on the same machine, libraries and dtype; elsewhere, rounding differs.

    Args:
        recipe: as `write` writes it.
        backbone: from `load_backbone`.
        token: the one that the recipe names, if it names one.

    Raises:
        RecipeError: a field is missing or not possible, or the token is not the one the picture was drawn with.
    """
    _check_token(recipe.get("token"), token)
    seed = _whole(recipe, "candidate_seed", 2**63 - 1, smallest=0)
    prompt = _field(recipe, "prompt", str)
    embeds = encode_shifted(backbone, prompt, token, stored_shifts(recipe.get("number_shifts", ()), prompt))
    stored = recipe.get("latents")
    latents = backbone.initial_latents([seed]) if stored is None else _latents(stored, backbone)
    return backbone.render(latents, embeds, [seed])[0]


def _check_token(named: Any, token: CountToken | None) -> None:
    """Refuse a token that the recipe does not name, by its vectors."""
    wanted = None if named is None else _field(named if isinstance(named, dict) else {}, "sha256", str)
    given = None if token is None else token.sha256
    if wanted != given:
        raise RecipeError(
            f"the picture was drawn with {_said(wanted)}, got {_said(given)}; give the token's file or shipped name"
        )


def _said(sha256: str | None) -> str:
    return "no token" if sha256 is None else f"a token whose vectors have the SHA-256 {sha256[:12]}..."


def _latents(stored: Any, backbone: Backbone) -> Tensor:
    """Stored latents as float32 (1, C, h, w)."""
    shape = backbone.latent_shape
    try:
        raw = base64.b64decode(stored["float32"], validate=True)
        values = np.frombuffer(raw, "<f4")
    except (TypeError, KeyError, ValueError, binascii.Error) as error:
        raise RecipeError(f"the recipe's latents are not base64 of float32: {error}") from error
    if stored.get("shape") != list(shape) or values.size != math.prod(shape) or not np.isfinite(values).all():
        raise RecipeError(f"the recipe's latents are not the {list(shape)} finite numbers that {backbone.name} needs")
    return torch.from_numpy(values.reshape(1, *shape).astype(np.float32)).to(backbone.device)


def _field(recipe: Mapping[str, Any], name: str, kind: type) -> Any:
    value = recipe.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise RecipeError(f"the recipe's {name} is {value!r}, expected {kind.__name__}; nothing can be drawn from it")
    return value


def _choice(recipe: Mapping[str, Any], name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    value: str = _field(recipe, name, str)
    if value not in known:
        raise RecipeError(f"the recipe's {name} is {value!r}; known: {', '.join(known)}")
    return value


def _whole(recipe: Mapping[str, Any], name: str, largest: int, *, smallest: int = 1) -> int:
    value: int = _field(recipe, name, int)
    if not smallest <= value <= largest:
        raise RecipeError(f"the recipe's {name} is {value}, expected {smallest} to {largest}")
    return value


def _finite(recipe: Mapping[str, Any], name: str) -> float:
    value = recipe.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RecipeError(f"the recipe's {name} is {value!r}, expected a number")
    return float(value)
