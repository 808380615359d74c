"""Write the recipe of an image, check one that comes from a file, and regenerate the image from it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from countgen import backbones
from countgen.backbones import Backbone, Preset
from countgen.backbones.base import MEMORY
from countgen.backbones.hub import at_revision, is_commit
from countgen.backbones.loading import hub_sources, public_name
from countgen.backbones.lora import Lora
from countgen.backbones.registry import configured, find, presets
from countgen.backbones.sources import find_source, generic_preset
from countgen.errors import RecipeError
from countgen.methods.settings import as_dict
from countgen.methods.step import Step
from countgen.models import Models
from countgen.number_slider import NumberShift, encode_shifted
from countgen.number_slider.shifts import stored_shifts
from countgen.options import Options
from countgen.prompts import check_prompt
from countgen.recipe_fields import (
    candidate_seed,
    check_token,
    choice_of,
    guidance_of,
    latent_values,
    latents_of,
    negative_prompt_of,
    shown,
    text_of,
    whole_number_of,
)
from countgen.tokens.file import CountToken

SCHEMA = 2
"""Version of what `write` writes, and the only one that is read."""

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
MAX_INFERENCE_STEPS = 1000
USUAL_STEPS = 100
"""Sampler steps accepted without `many_steps`, or four times those of the preset, where that is more."""
MAX_SIDE = 4096
LONGEST_NAME = 60
"""Most characters of the name of a preset or a scheduler."""
_PARTS = ("denoiser", "vae", "scheduler_options", "timesteps", "max_sequence_length")
"""Fields of a preset that decide about pixels and that no recipe may set, since some name files."""
_FIELDS = (
    *("schema", "prompt", "targets", "method", "settings", "seed", "until", "backbone", "repository", "revision"),
    *("num_inference_steps", "guidance_scale", "sampler", "height", "width", "dtype", "memory", "draft", "critics"),
    *("judge", "counts", "judge_counts", "confirmed", "candidate_seed", "evaluations", "versions", "family", "loras"),
    *("scheduler", "detectors_chosen", "changed_parts", "negative_prompt", "token", "number_shifts", "latents"),
)
"""All fields that `write` writes; an image whose recipe has another one cannot be generated again by this version."""
_DROPPED_BY_PLAIN = (
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
    prompt: str,
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
        options: of the run, with targets and settings filled in.
        seed: of the run's first latents.
        shifts: along the number axis.
        best: the step to store.
        judge_counts: per target; empty without a judge.
    """
    backbone, token = models.backbone, options.token
    assert options.targets is not None
    assert options.settings is not None
    recipe: dict[str, Any] = {
        "schema": SCHEMA,
        "prompt": prompt,
        "targets": [asdict(target) for target in options.targets],
        "method": options.method,
        "settings": as_dict(options.settings),
        "seed": seed,
        "until": options.until,
        "backbone": backbone.name,
        "repository": public_name(backbone.preset.repository),
        "revision": backbone.preset.revision,
        "num_inference_steps": backbone.num_inference_steps,
        "guidance_scale": backbone.guidance_scale,
        "sampler": type(backbone.pipeline.scheduler).__name__,
        "height": backbone.height,
        "width": backbone.width,
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "memory": backbone.memory,
        "draft": backbone.tiny_vae is not None,
        "critics": [critic.name for critic in models.critics],
        "judge": None if models.judge is None else models.judge.name,
        "counts": list(best.counts),
        "judge_counts": list(judge_counts),
        "confirmed": best.confirmed,
        "candidate_seed": best.seed,
        "evaluations": best.evaluations,
        "versions": versions(),
    }
    if backbone.name not in presets():
        recipe["family"] = backbone.family
    if backbone.preset.scheduler not in (None, _usual(backbone).scheduler):
        recipe["scheduler"] = backbone.preset.scheduler
    if backbone.loras:
        recipe["loras"] = [lora.recorded for lora in backbone.loras]
    if models.detectors_chosen:
        recipe["detectors_chosen"] = models.detectors_chosen
    if changed := _changed_parts(backbone):
        recipe["changed_parts"] = changed
    if options.negative_prompt is not None:
        recipe["negative_prompt"] = options.negative_prompt
    if token is not None:
        recipe["token"] = {"placeholder_token": token.placeholder_token, "sha256": token.sha256}
    if shifts:
        recipe["number_shifts"] = [shift.as_dict() for shift in shifts]
    if best.phase != "search":
        # Latents that gradients moved are not those of a seed: they are stored, little-endian float32.
        raw = best.latents.float().cpu().contiguous().numpy().astype("<f4").tobytes()
        recipe["latents"] = {"shape": list(best.latents.shape), "float32": base64.b64encode(raw).decode("ascii")}
    return recipe


def _changed_parts(backbone: Backbone) -> list[str]:
    """Parts that no name can load again."""
    if backbone.given:
        return ["pipeline"]
    usual = _usual(backbone)
    parts = [part for part in _PARTS if getattr(backbone.preset, part) != getattr(usual, part)]
    if backbone.preset.scheduler is None and usual.scheduler is not None:
        parts.append("scheduler")  # a recipe says which one, not that there is none
    return parts


def _usual(backbone: Backbone) -> Preset:
    """The preset as its name gives it at this number of steps; that of a model without a name has nothing replaced."""
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
    """Return a recipe's version and the installed one, by library, where the two differ."""
    then = recipe.get("versions")
    then = then if isinstance(then, dict) else {}
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
        """What would come from the hub, where its cache does not hold it, with revisions."""
        adapters = [f"the LoRA {lora.source}" for lora in self.loras if not Path(lora.source).exists()]
        return (*hub_sources(self.preset, self.options["dtype"]), *adapters)

    def load(self, device: str | torch.device, *, download: bool = True) -> Backbone:
        """Load the backbone.

        Raises:
            OSError: the cache does not hold it, and `download` is False or the download fails.
        """
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
    """Refuse a recipe that cannot or must not be rendered, before anything is loaded or downloaded.

    A recipe comes from a file, which anyone may have written: it can name a preset, never a repository, a path or an
    adapter, of its repository only a commit, not a branch that anyone can push to, and of diffusers only a scheduler.

    Args:
        recipe: as `write` writes it.
        token: the one that the recipe names, if it names one.
        size: width and height of the image that it came with, which it must generate.
        model: what the image was generated with, where that was no preset or not the preset's own repository; with the
            preset or its repository as NAME@REVISION, the revision that is used instead of the recipe's.
        loras: those that it was generated with.
        many_steps: let it take as many sampler steps as it says, up to 1000.

    Raises:
        RecipeError: a field is missing, unknown or not possible, or the image was generated with another repository,
            parts, adapters or token.
        ValueError: no such preset, model or scheduler.
    """
    _check_fields(recipe)
    name, known = text_of(recipe, "backbone"), presets()
    preset = known[name][1] if name in known else None
    if preset is None and recipe.get("family") not in backbones.families():
        if len(name) > LONGEST_NAME or not name.isprintable():
            raise RecipeError(f"the recipe's backbone is {shown(name)}; known: {', '.join(sorted(known))}")
        find(name)  # refuses it, with near names
    named = recipe.get("repository")
    if model is None and (preset is None or named != public_name(preset.repository)):
        raise RecipeError(
            f"the image was generated with {shown(named or name)}, which a recipe may not name by itself: give "
            "model=, on the command line --model, what it was generated with"
        )
    if recipe.get("changed_parts"):
        raise RecipeError(
            f"the image was generated with another {shown(recipe['changed_parts'])} than {shown(name)} has: load the "
            "backbone as it was loaded then, and give it to countgen.recipe.regenerate"
        )
    if recipe.get("loras", []) != (given := [lora.recorded for lora in loras]):
        raise RecipeError(
            f"the image was generated with the adapters {shown(recipe.get('loras', []))}, got {shown(given)}: give "
            "loras=, on the command line --lora, the same in that order"
        )
    dtype = choice_of(recipe, "dtype", DTYPES)
    changes: dict[str, Any] = {
        "num_inference_steps": whole_number_of(recipe, "num_inference_steps", MAX_INFERENCE_STEPS),
        "guidance_scale": guidance_of(recipe),
        "height": whole_number_of(recipe, "height", MAX_SIDE),
        "width": whole_number_of(recipe, "width", MAX_SIDE),
    }
    _check_steps(changes["num_inference_steps"], preset, name, many_steps)
    rendered = changes["width"], changes["height"]
    if size is not None and size != rendered:
        raise RecipeError(
            f"the image is {size[0]} x {size[1]} and its recipe gives {rendered[0]} x {rendered[1]}: it was resized or "
            "cropped since"
        )
    if recipe.get("scheduler") is not None:
        changes["scheduler"] = text_of(recipe, "scheduler")
        if len(changes["scheduler"]) > LONGEST_NAME:
            raise RecipeError(f"the recipe's scheduler is {shown(changes['scheduler'])}, expected one of diffusers")
    repository, revision = at_revision(model) if model is not None else (None, None)
    if preset is not None and repository in (name, preset.repository):
        repository = None
    if (wanted := revision or _revision(recipe, preset, repository)) is not None:
        changes["revision"] = wanted
    prompt = text_of(recipe, "prompt")
    check_prompt(prompt)
    if stored_shifts(recipe.get("number_shifts", ()), prompt) and recipe.get("token") is not None:
        raise RecipeError("the recipe names a token and number_shifts; an image is made with one of them")
    negative_prompt_of(recipe)
    candidate_seed(recipe)
    check_token(recipe.get("token"), token)
    if recipe.get("latents") is not None:
        latent_values(recipe["latents"])
    options = {
        "dtype": DTYPES[dtype],
        "memory": choice_of(recipe, "memory", MEMORY),
        **changes,
    }
    if preset is not None:
        preset = configured(name, repository=repository, **changes)
        return Checked(name, repository, tuple(loras), name, preset, options)
    assert repository is not None
    try:
        source = find_source(repository, download=False, **changes)
    except OSError:  # its configs are not in the cache, where loading looks again
        unread = generic_preset(str(recipe["family"]), "", repository, changes)
        return Checked(repository, None, tuple(loras), repository, unread, options)
    return Checked(repository, None, tuple(loras), source.name, source.preset, options)


def _check_fields(recipe: Mapping[str, Any]) -> None:
    if recipe.get("schema") != SCHEMA:
        raise RecipeError(f"the recipe has the schema {shown(recipe.get('schema'))}, this version reads {SCHEMA}")
    unknown = [name for name in recipe if name not in _FIELDS]
    if unknown:
        raise RecipeError(f"the recipe has the unknown field {shown(unknown[0])}; known: {', '.join(_FIELDS)}")


def _check_steps(steps: int, preset: Preset | None, name: str, many_steps: bool) -> None:
    usual = USUAL_STEPS if preset is None else max(USUAL_STEPS, 4 * preset.num_inference_steps)
    if steps > usual and not many_steps:
        made_for = "" if preset is None else f", and {name} is made for {preset.num_inference_steps}"
        raise RecipeError(
            f"the recipe asks for {steps} sampler steps{made_for}: more than {usual} are accepted on request only, "
            "many_steps=True, on the command line --yes"
        )


def _revision(recipe: Mapping[str, Any], preset: Preset | None, repository: str | None) -> str | None:
    """The commit that a recipe names; None for the preset's own, and for what lies on the disk and has none."""
    wanted = recipe.get("revision")
    own = preset if repository is None else None
    place = repository if own is None else own.repository
    if wanted is None or (place is not None and Path(place).exists()):
        return None
    if not isinstance(wanted, str) or not (is_commit(wanted) or (own is not None and wanted == own.revision)):
        raise RecipeError(
            f"the recipe's revision is {shown(wanted)}, expected the 40 hexadecimal digits of a commit: what a branch "
            "holds can change, and others may push to it; where you trust it, give model=NAME@REVISION, on the command "
            "line --model NAME@REVISION"
        )
    return wanted


def load_backbone(
    recipe: Mapping[str, Any],
    *,
    device: str | torch.device = "cpu",
    model: str | None = None,
    loras: Sequence[Lora] = (),
) -> Backbone:
    """Return the backbone that generated an image, with the settings of its recipe; `check` has more options.

    Args:
        recipe: as `write` writes it.
        device: where to generate.
        model: what the image was generated with, where that was no preset, or another repository in its place.
        loras: those it was generated with.

    Raises:
        RecipeError, ValueError: as `check`.
        OSError: the repository is not in the hub's cache and cannot be downloaded.
    """
    # `regenerate` checks the token, which is not at hand here.
    return check({**recipe, "token": None}, model=model, loras=loras).load(device)


@torch.no_grad()
def regenerate(recipe: Mapping[str, Any], backbone: Backbone, token: CountToken | None = None) -> Tensor:
    """Return the image of a recipe, generated again: RGB float32 (3, H, W) in [0, 1].

    Bit-equal after rounding to 8 bits on the same machine, libraries and dtype; elsewhere, rounding differs.

    Args:
        recipe: as `write` writes it.
        backbone: from `load_backbone`.
        token: the one that the recipe names, if it names one.

    Raises:
        RecipeError: a field is missing, unknown or not possible, or the token is not the one that the image was
            generated with.
    """
    _check_fields(recipe)
    prompt = text_of(recipe, "prompt")
    check_prompt(prompt)
    check_token(recipe.get("token"), token)
    seed = candidate_seed(recipe)
    shifts = stored_shifts(recipe.get("number_shifts", ()), prompt)
    embeds = encode_shifted(backbone, prompt, token, shifts, negative_prompt_of(recipe))
    return backbone.render(latents_of(recipe, backbone), embeds, [seed])[0]
