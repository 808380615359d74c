"""Change the count of an image that countgen generated, and keep the rest of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from msgspec.structs import replace

from countgen.backbones import Backbone
from countgen.errors import RecipeError
from countgen.models import Models
from countgen.number_slider import NumberShift
from countgen.number_slider.shifts import number_span
from countgen.options import EditFields
from countgen.prompts import Target
from countgen.prompts.recount import recounted
from countgen.recipe import regenerate
from countgen.recipe_fields import Recipe, fields_of
from countgen.result import Result
from countgen.run import Original, Run


def edit(
    original: Result | Mapping[str, Any],
    models: Models,
    *,
    counts: Mapping[str, int],
    progress: bool = False,
    **options: Unpack[EditFields],
) -> Result:
    """Change the count of an image, and keep the rest of the image.

    Objects whose count stays keep the offset along the number axis that the original has for them; changed counts are
    encoded as words or by the calibration. A token of the original is not kept.

    Args:
        original: a result, or the recipe inside a PNG.
        models: with the backbone that generated it, with the same settings.
        counts: target counts by object name; objects that are not named keep their count.
        progress: show the progress on standard error.
        options: fields of `countgen.Options`. `settings` are `countgen.methods.edit.EditSettings`; `token` is the one
            that the original was generated with, if it was; the edit is generated without.

    Returns:
        A result whose `before` is the original.

    Raises:
        RecipeError: not a recipe, or one that this backbone cannot render.
        PromptError: a count outside 1 to 1000, or a prompt in which no number can be replaced.
        ValueError: an object without a count in the image, or a count that a detector cannot return.
    """
    return edit_run(original, models, counts=counts, **options).finish(progress=progress)


def edit_run(
    original: Result | Mapping[str, Any],
    models: Models,
    *,
    counts: Mapping[str, int],
    **options: Unpack[EditFields],
) -> Run:
    """Return the `Run` of an edit, for callers that iterate over its steps; arguments and errors as of `edit`."""
    token = options.pop("token", None)
    recipe = original.recipe if isinstance(original, Result) else original
    old, fields = targets_of(recipe), fields_of(recipe)
    targets = _changed_targets(old, counts, models)
    models.check(targets)
    _check_backbone(fields, models.backbone)
    image = regenerate(recipe, models.backbone, token)
    run = Run(
        recounted(fields.prompt, targets, models.critics[0].object_names),
        models,
        method="edit",
        negative_prompt=fields.negative_prompt,
        deterministic=fields.deterministic,
        original=Original(fields.latents_for(models.backbone), image, fields.candidate_seed),
        **options,
    )
    run.shifts = _with_kept_shifts(run, fields.number_shifts, old)
    return run


def _with_kept_shifts(run: Run, stored: Sequence[NumberShift], old: tuple[Target, ...]) -> tuple[NumberShift, ...]:
    """Return the shifts of an edit, those of the original for objects whose count stays."""
    same = {target.object_name: target for target in run.targets if target in old}
    kept = []
    for shift in stored:
        if shift.object_name in same:
            start, end = number_span(run.prompt, same[shift.object_name])
            kept.append(replace(shift, start=start, end=end))
    names_kept = {shift.object_name for shift in kept}
    return (*kept, *(shift for shift in run.shifts if shift.object_name not in names_kept))


def targets_of(recipe: Mapping[str, Any]) -> tuple[Target, ...]:
    """Return the targets that a recipe holds; a RecipeError if it is damaged or has none."""
    targets = fields_of(recipe).targets
    if not targets:
        raise RecipeError("the recipe names no targets; give an image of countgen")
    return targets


def _changed_targets(targets: tuple[Target, ...], counts: Mapping[str, int], models: Models) -> tuple[Target, ...]:
    """Return an image's targets with other counts."""
    if not isinstance(counts, Mapping):
        raise ValueError(f"counts are given by object name, such as {{'apple': 7}}, got {counts!r}")
    critic = models.critics[0]

    def same(name: str) -> int | str:
        return name if critic.object_names is None else critic.column(name)

    wanted = {same(name): (name, count) for name, count in counts.items()}
    changed = []
    for target in targets:
        _, count = wanted.pop(same(target.object_name), ("", target.target_count))
        changed.append(Target(target.object_name, count))
    if wanted or not counts:
        has = ", ".join(f"{target.object_name}={target.target_count}" for target in targets)
        given = ", ".join(repr(name) for name, _ in wanted.values()) or "no count"
        raise ValueError(f"the image was generated with {has}, got {given}; give counts of these objects only")
    return tuple(changed)


def _check_backbone(fields: Recipe, backbone: Backbone) -> None:
    """Raise a RecipeError that names the first difference between a backbone and that of a recipe."""
    settings = ("num_inference_steps", "guidance_scale", "height", "width")
    present = {"backbone": backbone.name} | {name: getattr(backbone, name) for name in settings}
    present["loras"] = tuple(lora.recorded for lora in backbone.loras)
    present["sampler"] = backbone.sampler
    for name, here in present.items():
        if (then := getattr(fields, name)) != here:
            raise RecipeError(f"the image was generated with {name} {then!r}, here it is {here!r}; load it as it was")
