"""What a visitor asks for in the Generate tab or through the API: checked, and turned into a run."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import countgen
from countgen import methods
from countgen.app.demo.limits import Limits, RefusedError
from countgen.app.demo.session import Session
from countgen.backbones.registry import presets
from countgen.editing import targets_of
from countgen.methods.settings import Settings, describe
from countgen.models import Models
from countgen.prompts import Target
from countgen.recipe_fields import negative_prompt_of
from countgen.tokens.file import CountToken
from countgen.tokens.library import available_tokens

RANDOM_SEED = -1


@dataclass(frozen=True)
class GenerateForm:
    """The fields of the form, in the order of the page and of the API; unchecked until `checked`.

    Attributes:
        prompt, negative_prompt: texts.
        backbone, method, token: names that the page offers.
        seed: of the first image; `RANDOM_SEED` for a random one.
        seconds: time limit of one image.
        until: "critic" or "judge", as `countgen.Run` takes it.
        images: number of images, from consecutive seeds.
        num_inference_steps, guidance_scale: numbers, also as text; None and "" are the model's own.
        settings: of the method, "NAME=VALUE" separated by commas; the defaults where it is empty.
    """

    prompt: str
    backbone: str = "miniature"
    method: str = "auto"
    token: str = "none"
    seed: int = RANDOM_SEED
    seconds: int = 5
    until: str = "critic"
    images: int = 1
    negative_prompt: str = ""
    num_inference_steps: int | str | None = None
    guidance_scale: float | str | None = None
    settings: str = ""

    def checked(self, limits: Limits) -> GenerateForm:
        """Return the form with every value within the limits and a seed in the place of a random one.

        Raises:
            RefusedError: a value beyond the limits.
            ValueError: a setting that the method does not have or does not accept.
        """
        images, (steps, guidance) = limits.check_images(self.images), self.sampling(limits)
        seed = limits.check_seed(self.seed)
        form = GenerateForm(
            prompt=limits.check_prompt(self.prompt),
            backbone=limits.check_backbone(self.backbone),
            method=limits.check_method(self.method),
            token=self.token,
            seed=secrets.randbelow(2**31) if seed == RANDOM_SEED else min(seed, 2**32 - images),
            seconds=limits.check_seconds(self.seconds),
            until=limits.check_until(self.until),
            images=images,
            negative_prompt=limits.check_negative_prompt(self.negative_prompt),
            num_inference_steps=steps,
            guidance_scale=guidance,
            settings=self.settings,
        )
        form.method_settings(limits)
        return form

    def method_settings(self, limits: Limits) -> Settings:
        """Return the settings of the method.

        Raises:
            RefusedError, ValueError: as `Limits.check_settings`.
        """
        return limits.check_settings(methods.load(self.method).settings_class(), self.settings)

    def sampling(self, limits: Limits) -> tuple[int | None, float | None]:
        """Return sampler steps and guidance scale, None for the model's own.

        Raises:
            RefusedError: a value beyond the limits.
        """
        return limits.check_inference_steps(self.num_inference_steps), limits.check_guidance(self.guidance_scale)

    def run(
        self, models: Models, targets: tuple[Target, ...], session: Session, limits: Limits, offset: int = 0
    ) -> countgen.Run:
        """Return the run of one image.

        Args:
            models: from `ModelCache.sampled`.
            targets: of the prompt.
            session: whose tokens may be named.
            limits: that the settings are checked against.
            offset: number of the image, counted from 0.

        Raises:
            RefusedError: the token does not exist.
            CountGenError, ValueError: as `countgen.Run`.
        """
        return countgen.Run(
            self.prompt,
            models,
            targets=targets,
            method=self.method,
            settings=self.method_settings(limits),
            token=find_token(self.token, targets, self.backbone, session),
            seed=self.seed + offset,
            max_seconds=self.seconds,
            until=self.until,
            negative_prompt=self.negative_prompt or None,
        )


def kept_form(text: str, limits: Limits, session: Session) -> GenerateForm | None:
    """Return the form that a browser kept as a JSON object; None if it is none that the page accepts."""
    try:
        form = GenerateForm(**json.loads(text))
        form.checked(limits)
    except (ValueError, TypeError, RecursionError):
        return None
    return form if form.token in ("none", "shipped", *session.tokens) else replace(form, token="none")


def form_of(recipe: Mapping[str, Any], session: Session) -> GenerateForm:
    """Return the form that an image was generated with, as far as its recipe says; not checked.

    Raises:
        RecipeError: the recipe has no targets.
        RefusedError: the image was generated with a token that this visitor does not have.
    """
    targets = targets_of(recipe)
    name = str(recipe.get("backbone"))
    preset = presets()[name][1] if name in presets() else None
    seed = recipe.get("seed")
    steps, guidance = recipe.get("num_inference_steps"), recipe.get("guidance_scale")
    method, stored = recipe.get("method"), recipe.get("settings")
    changed = []
    if method in methods.available() and isinstance(stored, dict):
        defaults = {one.name: one.default for one in describe(methods.load(method).settings_class())}
        changed = [f"{key}={stored[key]}" for key in defaults if key in stored and stored[key] != defaults[key]]
    return GenerateForm(
        prompt=recipe.get("prompt", ""),
        backbone=name,
        method=str(method),
        token=_token_name(recipe, targets, name, session),
        seed=seed if type(seed) is int and 0 <= seed < 2**32 else RANDOM_SEED,  # an edit's may be above
        until=recipe.get("until", "critic"),
        negative_prompt=negative_prompt_of(recipe) or "",
        num_inference_steps=None if preset and steps == preset.num_inference_steps else steps,
        guidance_scale=None if preset and guidance == preset.guidance_scale else guidance,
        settings=", ".join(changed),
    )


def edited_form(form: GenerateForm, prompt: str) -> GenerateForm:
    """Return the form of an edited image: another prompt, the method "edit" and no token."""
    return replace(form, prompt=prompt, method="edit", token="none", settings="", images=1)


def _token_name(recipe: Mapping[str, Any], targets: tuple[Target, ...], backbone: str, session: Session) -> str:
    """Return the choice of the token field for a recipe's token."""
    named = recipe.get("token")
    if named is None:
        return "none"
    wanted = named.get("sha256") if isinstance(named, dict) else None
    shipped = available_tokens(backbone).get(f"count-{targets[0].target_count}")
    if shipped is not None and shipped.sha256 == wanted:
        return "shipped"
    for name, token in session.tokens.items():
        if token.sha256 == wanted:
            return name
    raise RefusedError("This image was generated with a token that is not here; upload it in the tab Tokens first.")


def find_token(choice: str, targets: tuple[Target, ...], backbone: str, session: Session) -> CountToken | None:
    """Return the visitor's own token, the shipped token for the target count, or None.

    Raises:
        RefusedError: the token does not exist, or the prompt has several targets.
    """
    if choice == "none":
        return None
    if isinstance(choice, str) and choice in session.tokens:
        return session.tokens[choice]
    if choice != "shipped":
        raise RefusedError("Unknown token; choose one from the list.")
    if len(targets) > 1:
        raise RefusedError("A shipped token stands for the count of one object class, and this prompt has several.")
    shipped = available_tokens(backbone)
    name = f"count-{targets[0].target_count}"
    if name not in shipped:
        raise RefusedError(
            f"No token for this count is shipped for {backbone}; shipped are: {', '.join(shipped) or 'none'}."
        )
    return shipped[name]
