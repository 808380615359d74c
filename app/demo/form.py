"""What a visitor asks for on the Generate page or through the API: checked, and turned into a run."""

from __future__ import annotations

import json
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from countgen import methods
from countgen.app.demo.limits import SURE, LimitError, Limits, choice, number
from countgen.backbones.registry import presets
from countgen.editing import targets_of
from countgen.methods.settings import Settings, describe
from countgen.prompts import Target
from countgen.recipe_fields import fields_of
from countgen.tokens.file import CountToken
from countgen.tokens.library import available_tokens

RANDOM_SEED = -1
SHIPPED, NO_TOKEN = "shipped", "none"


class UploadedTokens(OrderedDict[str, CountToken]):
    """The token files of all visitors by their SHA-256, which stands for a token in a form; the oldest are dropped."""

    def keep(self, token: CountToken, most: int) -> None:
        """Keep a token."""
        self[token.sha256] = token
        self.move_to_end(token.sha256)
        while len(self) > most:
            self.popitem(last=False)


@dataclass(frozen=True)
class GenerateForm:
    """The fields of the form, in the order of the page and of the API; unchecked until `checked`.

    Attributes:
        prompt, negative_prompt: texts.
        backbone, method: names that the page offers.
        token: "none", "shipped", or the SHA-256 of an uploaded token.
        seed: of the first image; `RANDOM_SEED` for a random one.
        seconds: time limit of one image.
        until: "critic" or "judge", as `countgen.Run` takes it.
        images: number of images, from consecutive seeds.
        num_inference_steps, guidance_scale: numbers, also as text; None and "" are the model's own.
        settings: of the method, "NAME=VALUE" separated by commas; the defaults if empty.
        sure: how certain the count must be, a word of `SURE`.
    """

    prompt: str
    backbone: str = "miniature"
    method: str = "auto"
    token: str = NO_TOKEN
    seed: int = RANDOM_SEED
    seconds: int = 5
    until: str = "critic"
    images: int = 1
    negative_prompt: str = ""
    num_inference_steps: int | str | None = None
    guidance_scale: float | str | None = None
    settings: str = ""
    sure: str = "sure"

    def checked(self, limits: Limits) -> GenerateForm:
        """Return the form with every value within the limits and a seed in place of a random one.

        Raises:
            LimitError: a value beyond the limits.
            ValueError: a setting that the method does not have or does not accept.
        """
        seconds, until = limits.check_end(self.seconds, self.until)
        images = int(choice(self.images, limits.images, "number of images"))
        seed = int(number(self.seed, RANDOM_SEED, 2**32 - 1, "The seed (-1: a random one)", whole=True))
        form = replace(
            self,
            prompt=limits.check_prompt(self.prompt),
            backbone=str(choice(self.backbone, limits.backbones, "model")),
            method=str(choice(self.method, limits.methods, "method")),
            seed=secrets.randbelow(2**31) if seed == RANDOM_SEED else min(seed, 2**32 - images),
            seconds=seconds,
            until=until,
            images=images,
            negative_prompt=limits.check_prompt(self.negative_prompt) if self.negative_prompt else "",
            num_inference_steps=limits.check_inference_steps(self.num_inference_steps),
            guidance_scale=limits.check_guidance(self.guidance_scale),
            sure=str(choice(self.sure, tuple(SURE), "certainty")),
        )
        form.method_settings(limits)
        if form.negative_prompt and not uses_guidance(form.backbone, limits.check_guidance(form.guidance_scale)):
            raise LimitError("This model uses no guidance, and so no negative prompt: give a guidance scale above 1.")
        return form

    def method_settings(self, limits: Limits) -> Settings:
        """Return the settings of the method, checked as `Limits.check_settings` does."""
        return limits.check_settings(methods.load(self.method).settings_class(), self.settings)


def uses_guidance(backbone: str, guidance_scale: float | None = None) -> bool:
    """Return whether a model samples with guidance, which a negative prompt needs."""
    if guidance_scale is None and backbone in presets():
        guidance_scale = presets()[backbone][1].guidance_scale
    return guidance_scale is None or guidance_scale > 1


def kept_form(text: object, limits: Limits, tokens: UploadedTokens) -> GenerateForm | None:
    """Return the form that a browser kept as a JSON list; None unless the page accepts it."""
    try:
        form = GenerateForm(*json.loads(str(text)))
        form.checked(limits)
    except (ValueError, TypeError, RecursionError):
        return None
    return form if form.token in (NO_TOKEN, SHIPPED, *tokens) else replace(form, token=NO_TOKEN)


def form_of(recipe: Mapping[str, Any], tokens: UploadedTokens) -> GenerateForm:
    """Return the form that an image was generated with, as far as its recipe says; not checked.

    Raises:
        RecipeError: the recipe has no targets.
        LimitError: the image was generated with a token that is not here.
    """
    targets = targets_of(recipe)
    name, method, stored = str(recipe.get("backbone")), recipe.get("method"), recipe.get("settings")
    preset = presets()[name][1] if name in presets() else None
    seed, steps, guidance = (recipe.get(key) for key in ("seed", "num_inference_steps", "guidance_scale"))
    changed = []
    if method in methods.available() and isinstance(stored, dict):
        defaults = {setting.name: setting.default for setting in describe(methods.load(method).settings_class())}
        changed = [f"{key}={stored[key]}" for key in defaults if key in stored and stored[key] != defaults[key]]
    return GenerateForm(
        prompt=recipe.get("prompt", ""),
        backbone=name,
        method=str(method),
        token=_token_choice(recipe, targets, name, tokens),
        seed=seed if type(seed) is int and 0 <= seed < 2**32 else RANDOM_SEED,  # an edit's may be above
        until=recipe.get("until", "critic"),
        negative_prompt=fields_of(recipe).negative_prompt or "",
        num_inference_steps=None if preset and steps == preset.num_inference_steps else steps,
        guidance_scale=None if preset and guidance == preset.guidance_scale else guidance,
        settings=", ".join(changed),
        sure=next((word for word, sure in SURE.items() if sure == recipe.get("sure")), "sure"),
    )


def _token_choice(recipe: Mapping[str, Any], targets: tuple[Target, ...], backbone: str, tokens: UploadedTokens) -> str:
    """Return the value of the token field for a recipe's token."""
    named = recipe.get("token")
    if named is None:
        return NO_TOKEN
    wanted = named.get("sha256") if isinstance(named, dict) else None
    shipped = available_tokens(backbone).get(f"count-{targets[0].target_count}")
    if shipped is not None and shipped.sha256 == wanted:
        return SHIPPED
    if isinstance(wanted, str) and wanted in tokens:
        return wanted
    raise LimitError(
        "This image was generated with a token that is not here; upload its file on the page Tokens first."
    )


def find_token(choice: object, targets: tuple[Target, ...], backbone: str, tokens: UploadedTokens) -> CountToken | None:
    """Return an uploaded token, the shipped token for the target count, or None.

    Raises:
        LimitError: the token does not exist, or the prompt has several targets.
    """
    if choice == NO_TOKEN:
        return None
    if isinstance(choice, str) and choice in tokens:
        return tokens[choice]
    if choice != SHIPPED:
        raise LimitError("This token is not here; choose one from the list, or upload its file again.")
    if len(targets) > 1:
        raise LimitError("A shipped token stands for the count of one object class, and this prompt has several.")
    shipped = available_tokens(backbone)
    name = f"count-{targets[0].target_count}"
    if name not in shipped:
        raise LimitError(
            f"No token for this count is shipped for {backbone}; shipped are: {', '.join(shipped) or 'none'}."
        )
    return shipped[name]
