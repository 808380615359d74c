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
from countgen.methods.settings import Settings, as_dict
from countgen.prompts import Target
from countgen.recipe_fields import Recipe, fields_of
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
        """Return the form with every value within the limits and a seed in place of a random one."""
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
    """Return the form that an image was generated with, as far as its recipe says; only its token is checked."""
    fields, known = fields_of(recipe), presets()
    preset = known[fields.backbone][1] if fields.backbone in known else None
    steps, guidance, stored = fields.num_inference_steps, fields.guidance_scale, fields.settings or {}
    defaults = as_dict(methods.load(fields.method).settings_class()) if fields.method in methods.available() else {}
    changed = [f"{name}={stored[name]}" for name in defaults if stored.get(name, defaults[name]) != defaults[name]]
    return GenerateForm(
        prompt=fields.prompt,
        backbone=fields.backbone,
        method=str(fields.method),
        token=_token_choice(fields, tokens),
        seed=RANDOM_SEED if fields.seed is None or fields.seed >= 2**32 else fields.seed,  # an edit's may be above
        until=fields.until or "critic",
        negative_prompt=fields.negative_prompt or "",
        num_inference_steps=None if preset and steps == preset.num_inference_steps else steps,
        guidance_scale=None if preset and guidance == preset.guidance_scale else guidance,
        settings=", ".join(changed),
        sure=next((word for word, sure in SURE.items() if sure == fields.sure), "sure"),
    )


def _token_choice(fields: Recipe, tokens: UploadedTokens) -> str:
    """Return the value of the token field for a recipe's token."""
    if fields.token is None:
        return NO_TOKEN
    shipped = available_tokens(fields.backbone).get(fields.token.placeholder_token.strip("<>"))
    if shipped is not None and shipped.sha256 == fields.token.sha256:
        return SHIPPED
    if fields.token.sha256 in tokens:
        return fields.token.sha256
    raise LimitError(
        "This image was generated with a token that is not here; upload its file on the page Tokens first."
    )


def find_token(choice: object, targets: tuple[Target, ...], backbone: str, tokens: UploadedTokens) -> CountToken | None:
    """Return an uploaded token, the shipped token for the target count, or None."""
    if choice == NO_TOKEN:
        return None
    if isinstance(choice, str) and choice in tokens:
        return tokens[choice]
    if choice != SHIPPED:
        raise LimitError("This token is not here; choose one from the list, or upload its file again.")
    if len(targets) > 1:
        raise LimitError("A shipped token stands for the count of one object class, and this prompt has several.")
    shipped = available_tokens(backbone)
    token = shipped.get(f"count-{targets[0].target_count}")
    if token is None:
        raise LimitError(
            f"No token for this count is shipped for {backbone}; shipped are: {', '.join(shipped) or 'none'}."
        )
    return token
