"""Write the recipe of an image, check one that comes from a file, and regenerate the image from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from msgspec import to_builtins
from torch import Tensor

from countgen import backbones, methods
from countgen.backbones import Backbone, Preset
from countgen.backbones.loading import hub_sources
from countgen.backbones.lora import Lora
from countgen.backbones.model_files import public_name
from countgen.backbones.registry import configured, find, presets
from countgen.backbones.sources import find_source, generic_preset
from countgen.determinism import deterministic
from countgen.errors import RecipeError
from countgen.files.hub import at_revision, is_commit
from countgen.files.printable import printable
from countgen.methods.settings import as_dict
from countgen.methods.step import Step
from countgen.models import Models
from countgen.number_slider import NumberShift, encode_shifted
from countgen.options import Options
from countgen.prompts import Prompt
from countgen.recipe_fields import SCHEMA, Recipe, StoredLatents, fields_of
from countgen.tokens.file import CountToken

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
USUAL_STEPS = 100
"""Sampler steps accepted without `many_steps`, or four times those of the preset if that is more."""
_PARTS = ("denoiser", "vae", "scheduler_options", "timesteps", "max_sequence_length")
"""Fields of a preset that decide about pixels and that no recipe may set, since some name files."""
_GIVEN = ("num_inference_steps", "guidance_scale", "height", "width", "scheduler")
"""Fields of a preset that a recipe sets."""
_DROPPED_BY_PLAIN = frozenset(
    "settings token number_shifts latents counts judge_counts probability confirmed evaluations".split()
)


def write(
    prompt: Prompt,
    models: Models,
    options: Options,
    seed: int,
    shifts: Sequence[NumberShift],
    best: Step,
    judge_counts: Sequence[int],
) -> dict[str, Any]:
    """Return what is needed to generate `best` again, with its counts, as a dict that JSON can hold.

    Args:
        prompt, models: of the run.
        options: of the run, with settings filled in.
        seed: of the run's first latents.
        shifts: along the number axis.
        best: the step to store.
        judge_counts: per target; empty without a judge.
    """
    assert options.settings is not None
    backbone = models.backbone
    fields = {
        "schema": SCHEMA,
        "prompt": prompt.given,
        "targets": [asdict(target) for target in prompt.targets],
        "method": methods.name_of(options.method),
        "settings": as_dict(options.settings),
        "seed": seed,
        "until": options.until,
        "sure": options.sure,
        "backbone": backbone.name,
        "repository": public_name(backbone.preset.repository),
        "revision": backbone.preset.revision,
        "num_inference_steps": backbone.num_inference_steps,
        "guidance_scale": backbone.guidance_scale,
        "sampler": backbone.sampler,
        "height": backbone.height,
        "width": backbone.width,
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "memory": backbone.memory,
        "draft": backbone.tiny_vae is not None,
        "critics": [critic.name for critic in models.critics],
        "judge": models.judge and models.judge.name,
        "judge_counts": list(judge_counts),
        "counts": list(best.counts),
        "probability": round(best.probability, 4),
        "confirmed": best.confirmed,
        "candidate_seed": best.seed,
        "evaluations": best.evaluations,
        "versions": versions(),
    }
    unusual = {
        "detectors_chosen": models.detectors_chosen or None,
        "negative_prompt": options.negative_prompt,
        "deterministic": options.deterministic,
        "token": options.token and {name: getattr(options.token, name) for name in ("placeholder_token", "sha256")},
        "number_shifts": [to_builtins(shift) for shift in shifts],
        "family": None if backbone.name in presets() else backbone.family,
        "scheduler": None if backbone.preset.scheduler == _usual(backbone).scheduler else backbone.preset.scheduler,
        "loras": [lora.recorded for lora in backbone.loras],
        "changed_parts": _changed_parts(backbone),
        # Latents that gradients moved are not those of a seed.
        "latents": None if best.phase == "search" else to_builtins(StoredLatents.of(best.latents)),
    }
    return fields | {name: value for name, value in unusual.items() if value not in (None, False, [])}


def _changed_parts(backbone: Backbone) -> list[str]:
    """Return the parts that no name can load again."""
    if backbone.given:
        return ["pipeline"]
    if not backbone.repeatable:
        return ["seed"]
    usual = _usual(backbone)
    parts = [part for part in _PARTS if getattr(backbone.preset, part) != getattr(usual, part)]
    if backbone.preset.scheduler is None and usual.scheduler is not None:
        parts.append("scheduler")  # a recipe says which one, not that there is none
    return parts


def _usual(backbone: Backbone) -> Preset:
    """Return the preset of the backbone's name at this number of steps; without a name, one with nothing replaced."""
    preset = backbone.preset
    if backbone.name not in presets():
        return replace(preset, scheduler=None, denoiser=None, vae=None, scheduler_options=())
    own = find(backbone.name)[1].repository
    repository = None if preset.repository == own else preset.repository
    return configured(backbone.name, repository=repository, num_inference_steps=preset.num_inference_steps)


def versions() -> dict[str, str]:
    """Return the versions of the libraries that determine pixels."""
    stock = {name: version(name) for name in ("diffusers", "transformers")}
    # Torch's own version names its build as well, "2.14.1+cu130".
    return {"countgen": version("countgen"), "torch": str(torch.__version__), **stock}


def changed_versions(recipe: Mapping[str, Any]) -> dict[str, tuple[str | None, str]]:
    """Return a checked recipe's version and the installed one, by library, where the two differ."""
    then = recipe.get("versions") or {}
    return {name: (then.get(name), here) for name, here in versions().items() if then.get(name) != here}


def plain(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe of the image `before`: the same prompt and seed, no token, latents not moved."""
    kept = {key: value for key, value in recipe.items() if key not in _DROPPED_BY_PLAIN}
    return kept | {"method": "plain", "candidate_seed": recipe["seed"]}


@dataclass(frozen=True)
class Checked:
    """The backbone that a checked recipe needs, not loaded yet.

    Attributes:
        model, repository, loras: as `countgen.backbones.load` takes them; of the recipe only a preset's name.
        name: of the backbone, as records call it.
        preset: that these and the recipe give; of a model that the cache does not hold, only what the recipe says.
        options: `dtype`, `memory` and fields of the preset, as `countgen.backbones.load` takes them.
    """

    model: str
    repository: str | None
    loras: tuple[Lora, ...]
    name: str
    preset: Preset
    options: dict[str, Any]

    @property
    def sources(self) -> tuple[str, ...]:
        """What comes from the hub if its cache does not hold it, with revisions."""
        adapters = [f"the LoRA {lora.source}" for lora in self.loras if not Path(lora.source).exists()]
        return (*hub_sources(self.preset, self.options["dtype"]), *adapters)

    def load(self, device: str | torch.device, *, download: bool = True) -> Backbone:
        """Load the backbone; an OSError if the cache does not hold it and it cannot or must not be downloaded."""
        return backbones.load(
            self.model,
            repository=self.repository,
            loras=self.loras,
            device=device,
            download=download,
            **self.options,
        )


def check(
    recipe: Mapping[str, Any],
    *,
    token: CountToken | None = None,
    size: tuple[int, int] | None = None,
    model: str | None = None,
    loras: Sequence[Lora] = (),
    many_steps: bool = False,
) -> Checked:
    """Return the backbone of a recipe that may be rendered; nothing is loaded or downloaded.

    A recipe comes from a file, which anyone may have written: it can name a preset, never a repository, a path or an
    adapter, of its repository only a commit, not a branch that anyone can push to, and of diffusers only a scheduler.

    Args:
        recipe: as `write` writes it.
        token: the one that the recipe names, if it names one.
        size: width and height of the image that it came with, which it must generate.
        model: what the image was generated with, if not a preset's own repository; with the preset or its repository as
            NAME@REVISION, the revision that is used instead of the recipe's.
        loras: those that it was generated with.
        many_steps: let it take as many sampler steps as it says, up to 1000.

    Raises:
        RecipeError: a field is missing, unknown or not possible, or the image was generated with another repository,
            parts, adapters or token.
        ValueError: no such preset, model or scheduler.
    """
    fields = fields_of(recipe)
    preset = None  # of a model of a known family that has none
    if fields.backbone in presets() or fields.family not in backbones.families():
        preset = find(fields.backbone)[1]  # raises, with near names
    _check_origin(fields, preset, model, loras)
    usual = USUAL_STEPS if preset is None else max(USUAL_STEPS, 4 * preset.num_inference_steps)
    if fields.num_inference_steps > usual and not many_steps:
        raise RecipeError(
            f"the recipe asks for {fields.num_inference_steps} sampler steps: more than {usual} are accepted on "
            "request only, many_steps=True, on the command line --yes"
        )
    if size is not None and size != (fields.width, fields.height):
        raise RecipeError(
            f"the image is {size[0]} x {size[1]} and its recipe gives {fields.width} x {fields.height}: it was resized "
            "or cropped since"
        )
    _check_token(fields, token)
    return _checked(fields, preset, model, tuple(loras))


def _checked(fields: Recipe, preset: Preset | None, model: str | None, loras: tuple[Lora, ...]) -> Checked:
    repository, revision = at_revision(model) if model is not None else (None, None)
    if preset is not None and repository in (fields.backbone, preset.repository):
        repository = None
    given = {name: getattr(fields, name) for name in _GIVEN}
    given["revision"] = revision or _revision(fields, preset, repository)
    changes = {name: value for name, value in given.items() if value is not None}
    options = {"dtype": DTYPES[fields.dtype], "memory": fields.memory, **changes}
    if preset is not None:
        preset = configured(fields.backbone, repository=repository, **changes)
        return Checked(fields.backbone, repository, loras, fields.backbone, preset, options)
    assert repository is not None
    try:
        source = find_source(repository, download=False, **changes)
        name, preset = source.name, source.preset
    except OSError:  # its configs are not in the cache, where loading looks again
        name, preset = repository, generic_preset(str(fields.family), "", repository, changes)
    return Checked(repository, None, loras, name, preset, options)


def _check_origin(fields: Recipe, preset: Preset | None, model: str | None, loras: Sequence[Lora]) -> None:
    """Raise if the image was generated with what a recipe cannot name by itself, unless the caller gives it."""
    if model is None and (preset is None or fields.repository != public_name(preset.repository)):
        raise RecipeError(
            f"the image was generated with {printable(fields.repository or fields.backbone, 60)!r}, which a recipe may "
            "not name by itself: give model=, on the command line --model, what it was generated with"
        )
    if "seed" in fields.changed_parts:
        raise RecipeError("the image is of a server that takes no seed, so it cannot be generated again")
    if fields.changed_parts:
        raise RecipeError(
            f"the image was generated with another {printable(', '.join(fields.changed_parts), 60)} than "
            f"{printable(fields.backbone, 60)!r} has: load the backbone as it was loaded then, and give it to "
            "countgen.recipe.regenerate"
        )
    if fields.loras != (given := tuple(lora.recorded for lora in loras)):
        raise RecipeError(
            f"the image was generated with the adapters {printable(list(fields.loras), 200)}, got "
            f"{printable(list(given), 200)}: give loras=, on the command line --lora, the same in that order"
        )


def _check_token(fields: Recipe, token: CountToken | None) -> None:
    """Raise if a token is not the one that the recipe names."""
    wanted, given = (None if one is None else one.sha256 for one in (fields.token, token))
    if wanted != given:
        then, here = (f"a token of SHA-256 {sha256[:12]}..." if sha256 else "no token" for sha256 in (wanted, given))
        raise RecipeError(f"the image was generated with {then}, got {here}; give the token's file or shipped name")


def _revision(fields: Recipe, preset: Preset | None, repository: str | None) -> str | None:
    """Return the commit that a recipe names; None for the preset's own, and for what is on the disk and has none."""
    wanted = fields.revision
    own = preset if repository is None else None
    place = repository if own is None else own.repository
    if wanted is None or (place is not None and Path(place).exists()):
        return None
    if not is_commit(wanted) and (own is None or wanted != own.revision):
        raise RecipeError(
            f"the recipe's revision is {printable(wanted, 60)!r}, expected the 40 hexadecimal digits of a commit: what "
            "a branch holds can change, and others may push to it; where you trust it, give model=NAME@REVISION, on "
            "the command line --model NAME@REVISION"
        )
    return wanted


@torch.no_grad()
def regenerate(recipe: Mapping[str, Any], backbone: Backbone, token: CountToken | None = None) -> Tensor:
    """Return the image of a recipe, generated again: RGB float32 (3, H, W) in [0, 1].

    Equal on the same machine with the same libraries, dtype and number of threads; otherwise rounding differs. The
    number of threads does not matter if the recipe is `deterministic`.

    Args:
        recipe: as `write` writes it.
        backbone: from `check(recipe, token=token).load(device)`.
        token: the one that the recipe names, if it names one.

    Raises:
        RecipeError: a field is missing, unknown or not possible, or the token is not the one that the image was
            generated with.
    """
    fields = fields_of(recipe)
    _check_token(fields, token)
    with deterministic(fields.deterministic):
        embeds = encode_shifted(backbone, fields.prompt, token, fields.number_shifts, fields.negative_prompt)
        return backbone.render(fields.latents_for(backbone), embeds, [fields.candidate_seed])[0]
