"""`countgen reproduce`: generate an image again from the recipe inside it, and compare."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countgen.app.argument_types import grey_levels
from countgen.app.exit_codes import NOT_REACHED, OK
from countgen.app.loading import available_device
from countgen.app.model_arguments import METAVAR, add_loras
from countgen.app.terminal import fitted

if TYPE_CHECKING:
    from PIL import Image

    from countgen.backbones import Backbone
    from countgen.recipe import Checked
    from countgen.tokens.file import CountToken


def add_parser(commands: Any) -> None:
    """Add the command to the sub-parsers."""
    parser = commands.add_parser(
        "reproduce",
        help="generate an image again",
        description="Generate an image again from the recipe inside it, and print the largest pixel difference: 0 on "
        "the same machine with the same versions. Exit code 1 where it is above --tolerance.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("image", type=Path, metavar="IMAGE.png", help="an image that countgen wrote")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the new image there, under a free name")
    parser.add_argument(
        "--tolerance", type=grey_levels, default=0, metavar="N", help="largest difference allowed, 0-255 (%(default)s)"
    )
    parser.add_argument("--token", metavar="NAME|FILE", help="the count token, where the recipe's is not shipped")
    add_origin(parser)
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (CUDA where there is one)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def add_origin(parser: argparse.ArgumentParser) -> None:
    """Add what a recipe may not say by itself, which is the user's to give."""
    parser.add_argument(
        "--model",
        metavar=METAVAR,
        help="what it was made with, where that was no preset's own weights; @REVISION where the recipe's is no commit",
    )
    add_loras(parser)
    parser.add_argument(
        "--yes", action="store_true", help="download what is not in the hub's cache, and take more steps than is usual"
    )


def checked_recipe(
    recipe: dict[str, Any], options: argparse.Namespace, token: CountToken | None, size: tuple[int, int]
) -> Checked:
    """Refuse the recipe of an image of that size where the options of `add_origin` do not allow it.

    Raises:
        RecipeError, ValueError: as `countgen.recipe.check`.
    """
    from countgen import recipe as recipes
    from countgen.backbones import lora

    loras = [lora.parse(one) for one in options.lora]
    lora.check_installed(loras)
    return recipes.check(recipe, token=token, size=size, model=options.model, loras=loras, many_steps=options.yes)


def run(options: argparse.Namespace) -> int:
    """Generate, compare, report, and return the exit code.

    Raises:
        RecipeError: no readable image of ours, or a recipe that cannot be rendered; found before a model is loaded
            wherever that is possible.
        ValueError, OSError: other bad input.
    """
    from countgen.images import check_writable, read_png, save_png, to_pil

    picture, recipe = read_png(options.image)
    if options.out:
        if options.out.suffix.lower() != ".png":
            raise ValueError(f"--out {options.out} must end in .png: the recipe travels inside a PNG")
        check_writable(options.out.parent)
    device = available_device(options.device)

    from countgen import recipe as recipes

    token = token_of(options.token, recipe)
    checked = checked_recipe(recipe, options, token, picture.size)
    backbone = loaded(checked, device, options)
    generated = to_pil(recipes.regenerate(recipe, backbone, token))
    record: dict[str, Any] = {
        "image": str(options.image),
        **difference(picture, generated),
        "versions": recipes.changed_versions(recipe),
        "generated": str(save_png(generated, options.out, recipe)) if options.out else None,
    }
    record["same"] = record["largest_difference"] <= options.tolerance
    if options.json:
        print(json.dumps(record))
    else:
        _report(record)
    return OK if record["same"] else NOT_REACHED


def loaded(checked: Checked, device: str, options: argparse.Namespace) -> Backbone:
    """Return the backbone, from the cache; from the hub with --yes.

    Raises:
        RecipeError: the cache does not hold it; what would be downloaded is named.
    """
    from countgen.backbones.weight_files import described
    from countgen.errors import RecipeError
    from countgen.progress import loading

    shown = not (options.json or getattr(options, "quiet", False))
    what = described(checked.name, checked.preset)
    try:
        with loading(what, shown=shown):
            return checked.load(device, download=False)
    except OSError as error:
        missing = " and ".join(checked.sources)
        if not options.yes:
            if not missing:
                raise
            raise RecipeError(
                f"the hub's cache does not hold all of {missing}, which the image was generated with; give --yes to "
                "download what is missing"
            ) from error
    if missing and shown:
        print(fitted(f"downloading what the cache does not hold of {missing}"))
    with loading(what, shown=shown):
        return checked.load(device)


def token_of(given: str | None, recipe: dict[str, Any]) -> CountToken | None:
    """Return the token given, or the shipped one that the recipe names."""
    from countgen.errors import RecipeError
    from countgen.prompts.placeholders import PLACEHOLDER
    from countgen.tokens.library import find_token

    named = recipe.get("token")
    if given is None and named is None:
        return None
    if given is None:
        given = str(named.get("placeholder_token")) if isinstance(named, dict) else str(named)
        if not PLACEHOLDER.fullmatch(given):  # a recipe, which anyone may write, names no file
            raise RecipeError(f"the recipe's token is {given!r}, expected one like <count-7>; give --token FILE")
    return find_token(given, str(recipe.get("backbone")))


def difference(first: Image.Image, second: Image.Image) -> dict[str, int]:
    """Return the largest difference of a channel, 0 to 255, the number of pixels that differ, and of all pixels.

    Raises:
        RecipeError: the images are of different sizes.
    """
    import numpy as np

    from countgen.errors import RecipeError

    if first.size != second.size:
        raise RecipeError(
            f"the image is {first.width} x {first.height} and its recipe gives {second.width} x {second.height}: "
            "it was resized or cropped since"
        )
    apart = np.abs(np.asarray(first, dtype=int) - np.asarray(second, dtype=int)).max(axis=2)
    return {
        "largest_difference": int(apart.max()),
        "different_pixels": int((apart > 0).sum()),
        "pixels": int(apart.size),
    }


def _report(record: dict[str, Any]) -> None:
    from countgen.files.printable import printable

    said = (
        f"largest pixel difference: {record['largest_difference']} of 255 "
        f"({record['different_pixels']} of {record['pixels']} pixels differ)"
    )
    print(fitted(said))
    if record["largest_difference"]:
        for name, (then, here) in record["versions"].items():
            print(fitted(f"  generated with {name} {printable(then or '(unknown)', 60)}, here is {here}", hang=4))
    if record["generated"]:
        print(f"  {printable(record['generated'])}")
