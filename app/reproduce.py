"""`countgen reproduce`: generate an image again from the recipe inside it, and compare."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from typer import Argument

from countgen.app.exit_codes import NOT_REACHED, OK
from countgen.app.options import MODEL_NAMES, Device, Json, Loras, bounded, flag, option
from countgen.app.terminal import fitted
from countgen.files.printable import printable

if TYPE_CHECKING:
    from PIL import Image

    from countgen.backbones import Backbone
    from countgen.recipe import Checked
    from countgen.tokens.file import CountToken

Recipe = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Origin(Device, Loras):
    """What a recipe may not say by itself, and the user gives."""

    panel: ClassVar = "Model"
    model: str | None = option(
        None,
        MODEL_NAMES,
        "what the image was made with, if not with a preset's own weights; @REVISION if the recipe's is not a commit",
    )
    token: str | None = option(None, "NAME|FILE", "the count token of the image, if it is not a shipped one")
    yes: bool = flag("yes", "download what is not in the hub's cache, and take more steps than is usual")

    def token_of(self, recipe: Recipe) -> "CountToken | None":
        """Return the token given, or the shipped one that the recipe names."""
        from countgen.errors import RecipeError
        from countgen.prompts.placeholders import PLACEHOLDER
        from countgen.tokens.library import find_token

        name, named = self.token, recipe.get("token")
        if name is None and named is None:
            return None
        if name is None:
            name = str(named.get("placeholder_token")) if isinstance(named, dict) else str(named)
            if not PLACEHOLDER.fullmatch(name):  # a recipe, which anyone may write, names no file
                raise RecipeError(f"the recipe's token is {name!r}, expected one like <count-7>; give --token FILE")
        return find_token(name, str(recipe.get("backbone")))

    def check(self, recipe: Recipe, token: "CountToken | None", image_size: tuple[int, int]) -> "Checked":
        """Return the backbone that a recipe needs, if these options allow it.

        Raises:
            RecipeError, ValueError: as `countgen.recipe.check`.
        """
        from countgen import recipe as recipes
        from countgen.backbones import lora

        loras = [lora.parse(text) for text in self.lora or ()]
        lora.check_installed(loras)
        return recipes.check(recipe, token=token, size=image_size, model=self.model, loras=loras, many_steps=self.yes)

    def load(self, checked: "Checked", *, shown: bool) -> "Backbone":
        """Return the backbone, from the cache; from the hub with --yes.

        Raises:
            RecipeError: the cache does not hold it; the message names what would be downloaded.
        """
        from countgen.backbones.weight_files import described
        from countgen.errors import RecipeError
        from countgen.progress import loading

        device, what = self.available_device(), described(checked.name, checked.preset)
        try:
            with loading(what, shown=shown):
                return checked.load(device, download=False)
        except OSError as error:
            missing = " and ".join(checked.sources)
            if not self.yes:
                if not missing:
                    raise
                raise RecipeError(
                    f"the hub's cache does not hold all of {missing}, which the image was generated with; give --yes "
                    "to download what is missing"
                ) from error
        if missing and shown:
            print(fitted(f"downloading what the cache does not hold of {missing}"))
        with loading(what, shown=shown):
            return checked.load(device)


@dataclass(frozen=True, kw_only=True)
class Reproduce(Json, Origin):
    """Generate an image again from the recipe inside it, and print the largest pixel difference.

    It is 0 on the same machine with the same versions. The exit code is 1 if it is above --tolerance.
    """

    image: Path = Argument(..., metavar="IMAGE.png", help="an image that countgen wrote")
    out: Path | None = option(None, "FILE.png", "write the new image there, under a free name")
    tolerance: int = bounded(0, "largest difference allowed", least=0, most=255)

    def run(self) -> int:
        from countgen import recipe as recipes
        from countgen.images import check_writable, read_png, save_png, to_pil

        image, recipe = read_png(self.image)
        if self.out:
            if self.out.suffix.lower() != ".png":
                raise ValueError(f"--out {self.out} must end in .png: the recipe travels inside a PNG")
            check_writable(self.out.parent)
        token = self.token_of(recipe)
        backbone = self.load(self.check(recipe, token, image.size), shown=self.text)
        generated = to_pil(recipes.regenerate(recipe, backbone, token))
        record: dict[str, Any] = {
            "image": str(self.image),
            **difference(image, generated),
            "versions": recipes.changed_versions(recipe),
            "generated": str(save_png(generated, self.out, recipe)) if self.out else None,
        }
        record["same"] = record["largest_difference"] <= self.tolerance
        if self.json:
            print(json.dumps(record))
        else:
            _report(record)
        return OK if record["same"] else NOT_REACHED


def difference(first: "Image.Image", second: "Image.Image") -> dict[str, int]:
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
    differing = f"{record['different_pixels']} of {record['pixels']} pixels differ"
    print(fitted(f"largest pixel difference: {record['largest_difference']} of 255 ({differing})"))
    if record["largest_difference"]:
        for name, (then, here) in record["versions"].items():
            print(fitted(f"  generated with {name} {printable(then or '(unknown)', 60)}, here is {here}", hang=4))
    if record["generated"]:
        print(fitted(" ", path=record["generated"]))
