"""What commands accept; the module of a command's name does the work and is imported when the command runs.

Commands whose options are settings of the library (calibrate, tokens learn) are declared where they run.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from typer import Argument

from countgen import methods
from countgen.app.file_names import DEFAULT_TEMPLATE, KNOWN_FIELDS, name_template
from countgen.app.options import (
    LOOPBACK,
    MAX_SEEDS,
    MODEL_NAMES,
    CalibrationFile,
    Command,
    Detectors,
    Device,
    Json,
    Limits,
    Loading,
    Loras,
    Model,
    NegativePrompt,
    Output,
    Settings,
    Trust,
    bounded,
    flag,
    option,
    settings_help,
)


@dataclass(frozen=True, kw_only=True)
class Generate(Model, Limits, Detectors, CalibrationFile, NegativePrompt, Settings):
    """Generate images of a prompt such as 'a photo of seven apples', each before and after steering."""

    prompt: str = Argument(..., metavar="PROMPT", help="what to generate, with the count in words or digits")
    method: str = option(
        "auto", "NAME", f"one of {', '.join(methods.available())}", autocompletion=lambda: methods.available()
    )
    help_settings: bool = settings_help("auto")
    token: str | None = option(
        None, "NAME|FILE", "a count token to say the number: one that countgen tokens lists, or a file"
    )
    number_offset: list[str] | None = option(
        None,
        "X|NAME=X",
        "objects to add to what the prompt says, for every object class or one; 0 for the prompt as written; "
        "repeatable",
        "the calibrated one for search, auto and edit, if no number word reaches the count",
    )
    count: list[str] | None = option(
        None, "NAME=N", "what to count, such as apple=7, in place of the prompt; repeatable"
    )
    seed: list[str] | None = option(None, "N|A-B", "a seed or a range; -1 for a random one; repeatable", "0")
    images: int | None = bounded(None, "images from consecutive seeds", most=MAX_SEEDS, if_none="1")
    grid: bool = flag("grid", "also write all images as one")
    deterministic: bool = flag("deterministic", "the same image for any number of CPU threads: uses one; slower")
    draft: bool = flag("draft", "cheaper gradients through a tiny decoder; only if the model has one")
    out: Path = option(Path("images"), "FOLDER", "of the images")
    name: str = option(DEFAULT_TEMPLATE, "TEMPLATE", f"name of each file, from {KNOWN_FIELDS}", parser=name_template)


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


@dataclass(frozen=True, kw_only=True)
class Edit(Output, Limits, Detectors, CalibrationFile, Origin, Settings):
    """Change how many objects an image of countgen shows, and keep the rest: the other objects and the background.

    Everything but the counts comes from the recipe inside the image.
    """

    image: Path = Argument(..., metavar="IMAGE.png", help="an image that countgen wrote")
    counts: str = Argument(
        ..., metavar="NAME=N,...", help="how many are wanted, such as apple=7; other objects keep their count"
    )
    help_settings: bool = settings_help("edit")
    out: Path | None = option(None, "FILE.png", "of the result, under a free name", "IMAGE-edited.png")


@dataclass(frozen=True, kw_only=True)
class Count(Json, Trust, Device):
    """Count objects in images, such as 'countgen count photo.jpg person,bus'.

    Images of countgen say in their recipe what to count, and which judge counts it.

    The exit code is 1 if an image cannot be read; the others are counted.
    """

    words: list[str] = Argument(
        ...,
        metavar="IMAGE... [OBJECT...]",
        help="files or folders of images, and after them what to count; several objects with commas or spaces",
    )
    critic: str | None = option(
        None, "NAME", "the detector", "the judge of images of countgen, nanodet for COCO's classes, else owl:owlv2-base"
    )
    boxes: Path | None = option(None, "OUT", "draw the boxes: a .png for one image, a folder for several")
    csv: bool = flag("csv", "print a table with commas: image, object, count")

    @property
    def text(self) -> bool:
        """Whether the command prints text."""
        return not (self.json or self.csv)


@dataclass(frozen=True, kw_only=True)
class Tokens(Json):
    """List the count tokens that are shipped for a model, and their measured accuracy."""

    model: str = option("miniature", "NAME", "the preset of the tokens")


@dataclass(frozen=True, kw_only=True)
class Reproduce(Json, Origin):
    """Generate an image again from the recipe inside it, and print the largest pixel difference.

    It is 0 on the same machine with the same versions. The exit code is 1 if it is above --tolerance.
    """

    image: Path = Argument(..., metavar="IMAGE.png", help="an image that countgen wrote")
    out: Path | None = option(None, "FILE.png", "write the new image there, under a free name")
    tolerance: int = bounded(0, "largest difference allowed", least=0, most=255)


@dataclass(frozen=True, kw_only=True)
class Demo(Command, Detectors, Loading):
    """Serve a web page to generate images, change their counts, count objects and use count tokens.

    Only this machine can reach it by default; --host changes that and needs a password.
    """

    panel: ClassVar = "Options"
    host: str = option(LOOPBACK, "ADDRESS", "the address to listen on; others need --auth")
    port: int | None = bounded(None, "the port", most=65535, if_none="the first free port from 7860")
    auth: str | None = option(None, "USER:PASSWORD", "require a login", "the value of COUNTGEN_DEMO_AUTH")
    share: bool = flag("share", "create a public link through Gradio's servers; needs --auth")
    model: list[str] | None = option(
        None, MODEL_NAMES, "a model that visitors may choose; repeatable", "the embedded ones"
    )


@dataclass(frozen=True, kw_only=True)
class Doctor(Json, Trust, Device):
    """Check the installation: the exit code is 0 if all checks pass, otherwise 1.

    With --judge, let judges count the golden set instead, generated images whose objects an AI model counted, and print
    how often they count the same.
    """

    judge: list[str] | None = option(None, "NAME", "score this judge; repeatable, several have a majority too")
