"""The recipe of a picture: all that is needed to draw it again, as JSON, and the drawing itself."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor

import countgen
from countgen import backbones
from countgen.backbones import Backbone, Preset
from countgen.backbones.base import MEMORY
from countgen.backbones.loading import at_revision
from countgen.backbones.lora import Lora
from countgen.backbones.registry import configured, find, presets, public_name
from countgen.errors import RecipeError
from countgen.methods.settings import Settings, as_dict
from countgen.methods.step import Step
from countgen.models import Models
from countgen.prompts import Target, check_prompt
from countgen.tokens.file import CountToken
from countgen.tokens.textual_inversion import encode_prompt

SCHEMA = 2
"""Of what `write` writes; `redraw` reads 1 as well, which knew nothing of repositories, memory and versions."""

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
MAX_INFERENCE_STEPS = 1000
MAX_SIDE = 4096
_PARTS = ("denoiser", "vae", "scheduler_options", "timesteps", "max_sequence_length")
"""Fields of a preset that decide about pixels and that no recipe may set, since some name files."""
_NOT_OF_THE_PLAIN = ("settings", "token", "latents", "counts", "judge_counts", "confirmed", "evaluations")


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
    negative_prompt: str | None = None,
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
    if backbone.name not in presets():
        recipe["family"] = backbone.family
    if backbone.preset.scheduler != _usual(backbone).scheduler:
        recipe["scheduler"] = backbone.preset.scheduler
    if backbone.loras:
        recipe["loras"] = [lora.recorded for lora in backbone.loras]
    if models.because:
        recipe["detectors_chosen"] = models.because
    if changed := _changed_parts(backbone):
        recipe["changed_parts"] = changed
    if negative_prompt is not None:
        recipe["negative_prompt"] = negative_prompt
    if token is not None:
        recipe["token"] = {"placeholder_token": token.placeholder_token, "sha256": token.sha256}
    if best.phase == "refine":
        # Latents that gradients moved follow from no seed: they are kept, little-endian float32.
        raw = best.latents.float().cpu().contiguous().numpy().astype("<f4").tobytes()
        recipe["latents"] = {"shape": list(best.latents.shape), "float32": base64.b64encode(raw).decode("ascii")}
    return recipe


def _changed_parts(backbone: Backbone) -> list[str]:
    """Parts that no name can load again."""
    if backbone.given:
        return ["pipeline"]
    usual = _usual(backbone)
    return [part for part in _PARTS if getattr(backbone.preset, part) != getattr(usual, part)]


def _usual(backbone: Backbone) -> Preset:
    """The preset as its name gives it at this number of steps; that of a model without a name has nothing replaced."""
    preset = backbone.preset
    if backbone.name not in presets():
        return replace(preset, scheduler=None, denoiser=None, vae=None, scheduler_options=())
    own = find(backbone.name)[1].repository
    repository = None if preset.repository == own else preset.repository
    return configured(backbone.name, repository=repository, num_inference_steps=preset.num_inference_steps)


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
    recipe: Mapping[str, Any],
    *,
    device: str | torch.device = "cpu",
    model: str | None = None,
    loras: Sequence[Lora] = (),
) -> Backbone:
    """The backbone that drew a picture, as it was set then.

    A recipe comes from a file, which anyone may have written: it can name a preset, never a repository or a path.

    Args:
        recipe: as `write` writes it.
        device: where to generate.
        model: what the image was generated with, where that was no preset, or another repository in its place.
        loras: those it was generated with.

    Raises:
        RecipeError: a field is missing or not possible, or the image was generated with another repository, other parts
            or other adapters.
        ValueError: no such preset or model.
    """
    if recipe.get("schema") not in range(1, SCHEMA + 1):
        raise RecipeError(f"the recipe has the schema {recipe.get('schema')!r}, this version draws 1 to {SCHEMA}")
    name = _field(recipe, "backbone", str)
    family = recipe.get("family")
    if name not in presets() and family not in backbones.families():
        find(name)  # refuses it, with near names
    named = recipe.get("repository")
    own = public_name(presets()[name][1].repository) if name in presets() else None
    if recipe.get("changed_parts"):
        raise RecipeError(
            f"the picture was drawn with another {recipe['changed_parts']!r} than {name} has: load the backbone as it "
            "was loaded then, and give it to countgen.recipe.redraw"
        )
    if model is None and (own is None or named not in (None, own)):
        raise RecipeError(
            f"the picture was drawn with {named or name!r}, which a recipe may not name by itself: give model=, on the "
            "command line --model, what it was drawn with"
        )
    if recipe.get("loras", []) != [lora.recorded for lora in loras]:
        raise RecipeError(
            f"the picture was drawn with the adapters {recipe.get('loras', [])!r}, got "
            f"{[lora.recorded for lora in loras]!r}: give loras=, on the command line --lora, the same in that order"
        )
    dtype = _choice(recipe, "dtype", DTYPES)
    memory = _choice(recipe, "memory", MEMORY) if "memory" in recipe else "fast"
    changes: dict[str, Any] = {
        "num_inference_steps": _whole(recipe, "num_inference_steps", MAX_INFERENCE_STEPS),
        "guidance_scale": _finite(recipe, "guidance_scale"),
        "height": _whole(recipe, "height", MAX_SIDE),
        "width": _whole(recipe, "width", MAX_SIDE),
    }
    for field in ("revision", "scheduler"):
        if recipe.get(field) is not None:
            changes[field] = _field(recipe, field, str)
    if own is not None:
        repository, revision = (None, None) if model is None else at_revision(str(model))
        changes |= {"repository": repository} | ({} if revision is None else {"revision": revision})
        model = name
    assert model is not None
    return backbones.load(model, device=device, dtype=DTYPES[dtype], memory=memory, loras=loras, **changes)


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
    prompt = _field(recipe, "prompt", str)
    check_prompt(prompt)
    _check_token(recipe.get("token"), token)
    seed = _whole(recipe, "candidate_seed", 2**63 - 1, smallest=0)
    negative_prompt = _field(recipe, "negative_prompt", str) if "negative_prompt" in recipe else None
    if negative_prompt:
        check_prompt(negative_prompt)
    embeds = encode_prompt(backbone, prompt, token, negative_prompt)
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
