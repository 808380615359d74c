"""`countgen reproduce`: generate an image again from the recipe inside it, and compare."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from countgen import recipe as recipes
from countgen.app.arguments import Origin, Reproduce
from countgen.app.exit_codes import NOT_REACHED, OK
from countgen.app.terminal import fitted
from countgen.backbones import Backbone, lora
from countgen.backbones.loading import described
from countgen.errors import RecipeError
from countgen.files.printable import printable
from countgen.images import check_writable, read_png, save_png, to_pil
from countgen.progress import loading
from countgen.prompts.prompt import PLACEHOLDER
from countgen.recipe_fields import fields_of
from countgen.tokens.file import CountToken
from countgen.tokens.library import find_token

Recipe = dict[str, Any]


def run(command: Reproduce) -> int:
    """Generate the image again, and print the largest difference."""
    image, recipe = read_png(command.image)
    if command.out:
        check_png_path(command.out)
    token = token_of(command, recipe)
    backbone = load_origin(command, checked_origin(command, recipe, token, image.size), shown=command.text)
    generated = to_pil(recipes.regenerate(recipe, backbone, token))
    record: dict[str, Any] = {"image": str(command.image), **difference(image, generated)}
    record["versions"] = recipes.changed_versions(recipe)
    record["generated"] = str(save_png(generated, command.out, recipe)) if command.out else None
    record["same"] = record["largest_difference"] <= command.tolerance
    if command.json:
        print(json.dumps(record))
    else:
        _report(record)
    return OK if record["same"] else NOT_REACHED


def check_png_path(out: Path) -> None:
    """Raise if an image with its recipe cannot be written there."""
    if out.suffix.lower() != ".png":
        raise ValueError(f"--out {out} must end in .png: the recipe travels inside a PNG")
    check_writable(out.parent)


def token_of(command: Origin, recipe: Recipe) -> CountToken | None:
    """Return the token given, or the shipped one that the recipe names."""
    name, fields = command.token, fields_of(recipe)
    if name is None and fields.token is not None:
        name = fields.token.placeholder_token
        if not PLACEHOLDER.fullmatch(name):  # a recipe, which anyone may write, names no file
            raise RecipeError(f"the recipe's token is {name!r}, expected one like <count-7>; give --token FILE")
    return None if name is None else find_token(name, fields.backbone)


def checked_origin(
    command: Origin, recipe: Recipe, token: CountToken | None, image_size: tuple[int, int]
) -> recipes.Checked:
    """Return the backbone that a recipe needs, if the options allow it."""
    loras = [lora.parse(text) for text in command.lora or ()]
    return recipes.check(recipe, token=token, size=image_size, model=command.model, loras=loras, many_steps=command.yes)


def load_origin(command: Origin, checked: recipes.Checked, *, shown: bool) -> Backbone:
    """Return the backbone, from the cache; from the hub with --yes, without which an error names what is missing."""
    device, what = command.available_device(), described(checked.name, checked.preset)
    missing = " and ".join(checked.sources)
    try:
        with loading(what, shown=shown):
            return checked.load(device, download=False)
    except OSError as error:
        if not command.yes and missing:
            raise RecipeError(
                f"the hub's cache does not hold all of {missing}, which the image was generated with; give --yes "
                "to download what is missing"
            ) from error
        if not command.yes:
            raise
    if missing and shown:
        print(fitted(f"downloading what the cache does not hold of {missing}"))
    with loading(what, shown=shown):
        return checked.load(device)


def difference(first: Image.Image, second: Image.Image) -> dict[str, int]:
    """Return the largest difference of a channel, 0 to 255, the number of pixels that differ, and of all pixels."""
    apart = np.abs(np.asarray(first, dtype=int) - np.asarray(second, dtype=int)).max(axis=2)
    return {"largest_difference": int(apart.max()), "different_pixels": int((apart > 0).sum()), "pixels": apart.size}


def _report(record: dict[str, Any]) -> None:
    differing = f"{record['different_pixels']} of {record['pixels']} pixels differ"
    print(fitted(f"largest pixel difference: {record['largest_difference']} of 255 ({differing})"))
    if record["largest_difference"]:
        for name, (then, here) in record["versions"].items():
            print(fitted(f"  generated with {name} {printable(then or '(unknown)', 60)}, here is {here}", hang=4))
    if record["generated"]:
        print(fitted(" ", path=record["generated"]))
