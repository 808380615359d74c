"""Options that several commands share; nothing here imports torch before a command runs.

A command is a frozen dataclass: typer makes an option of each field, and `run` is called on the parsed object. Groups
of options are its base classes, so each option is declared once. Modules of commands do not postpone annotations
(`from __future__ import annotations`), because typer evaluates those of inherited fields.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, dataclass_transform

from typer import BadParameter, Context, Exit, Option

import countgen
from countgen import methods
from countgen.app.terminal import fitted
from countgen.methods.settings import Settings as LibrarySettings
from countgen.methods.settings import describe

if TYPE_CHECKING:
    from countgen.detector_choice import Choice
    from countgen.detector_files import Missing

MODEL_NAMES = "NAME|HUB-ID|FOLDER|FILE[@REVISION]"
MAX_SIDE = 4096
"""Largest side of an image in pixels, as recipes hold it."""

MAX_NUMBER = 1_000_000
MAX_SEED = 2**32 - 1
MAX_SEEDS = 10_000
"""Most seeds of one command."""

LOOPBACK = "127.0.0.1"


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Group:
    """Options of commands: every class derived from it is a frozen dataclass, with a heading in the help text."""

    panel: ClassVar[str | None] = None

    def __init_subclass__(cls, panel: str | None = None) -> None:
        dataclass(frozen=True, kw_only=True)(cls)
        cls.panel = panel or cls.panel


class Command(Group):
    """A parsed command; the module of its name, such as `countgen.app.generate`, does the work."""

    def run(self) -> int:
        """Run the command and return its exit code.

        Raises:
            ValueError, OSError: bad input, found before any model is loaded if possible.
        """
        module: Any = import_module(f"countgen.app.{type(self).__name__.lower()}")
        return int(module.run(self))

    @property
    def text(self) -> bool:
        """Whether the command prints text."""
        return not any(getattr(self, name, False) for name in ("json", "csv", "listed", "quiet"))


class Size(NamedTuple):
    """Width and height of an image in pixels."""

    width: int
    height: int


def option(default: Any, metavar: str, text: str, if_none: str | bool = True, **more: Any) -> Any:
    """Return an option; `if_none` says what a default of None means."""
    return Option(default, metavar=metavar, help=text, show_default=if_none, **more)


def bounded(
    default: Any, text: str, if_none: str | bool = True, *, least: int = 1, most: float = MAX_NUMBER, metavar: str = "N"
) -> Any:
    """Return the option of a number from `least` to `most`."""
    return option(default, metavar, text, if_none, min=least, max=most)


def setting(settings: type[LibrarySettings], name: str) -> Any:
    """Return the option of a setting that the library describes and checks; None leaves its default."""
    (described,) = (one for one in describe(settings()) if one.name == name)
    metavar = {int: "N", float: "X"}.get(type(described.default), "NAME")
    return option(None, metavar, f"{described.meaning}; {described.accepted}", str(described.default))


def flag(name: str, text: str) -> Any:
    """Return an option without a value."""
    return Option(False, f"--{name}", help=text)


def parse_size(text: str) -> Size:
    """Return the size in "512" or "768x512"."""
    match = re.fullmatch(r"([0-9]{1,4})(?:x([0-9]{1,4}))?", text)
    width, height = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= min(width, height) <= max(width, height) <= MAX_SIDE:
        raise BadParameter(f"write 512, or 768x512 for width and height, each from 1 to {MAX_SIDE} pixels")
    return Size(width, height)


def names(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the names in texts that hold one or several each, separated by commas."""
    return tuple(name for text in texts for part in text.split(",") if (name := part.strip()))


def given(**options: Any) -> dict[str, Any]:
    """Return the options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


class Json(Command, panel="Output"):
    """Output as text or as JSON."""

    json: bool = flag("json", "print one JSON object instead of text")


class Output(Json):
    """Output of commands that show their progress."""

    quiet: bool = flag("quiet", "print nothing but errors")


class Device(Group, panel="Model"):
    """The device of the models."""

    device: str | None = option(None, "NAME", "cpu, cuda, cuda:1, ...", "CUDA, if available")

    def available_device(self) -> str:
        """Return the named device, if it can compute, otherwise CUDA if available, otherwise the CPU."""
        import torch

        if self.device is None:
            return "cuda" if torch.cuda.is_available() else "cpu"
        try:
            # The device "meta" holds shapes without values; only `item` fails on it.
            torch.zeros(1, device=self.device).item()
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).splitlines()[0].partition(". ")[0]  # torch appends a list of all device types
            raise ValueError(f"no device {self.device!r} here: {reason}; use --device cpu") from error
        return self.device


class Loras(Group, panel="Model"):
    """LoRA adapters."""

    lora: list[str] | None = option(
        None, "FILE|ID[:WEIGHT]", "a LoRA adapter and its weight, 1 by default; repeatable; needs peft"
    )


class Loading(Loras):
    """How a model is loaded."""

    scheduler: str | None = option(None, "CLASS", "a scheduler of diffusers", "the model's own")
    dtype: Literal["float32", "float16", "bfloat16"] | None = Option(
        None, help="number format of the model", show_default="float32 on a CPU, else the model's own"
    )
    memory: Literal["fast", "low"] | None = Option(
        None, help="low: slower, for devices with little memory", show_default="fast"
    )

    @property
    def model_options(self) -> dict[str, Any]:
        """The given options under the names of `countgen.load`; the dtype by name."""
        loras = tuple(self.lora) if self.lora else None
        return given(loras=loras, scheduler=self.scheduler, dtype=self.dtype, memory=self.memory)

    @property
    def load_options(self) -> dict[str, Any]:
        """The given options as keyword arguments of `countgen.load`."""
        import torch

        options = self.model_options
        return options | ({"dtype": getattr(torch, options["dtype"])} if "dtype" in options else {})


class Sampling(Loading):
    """How a model is loaded, and how each image is sampled."""

    num_inference_steps: int | None = bounded(None, "sampler steps of each image", most=1000, if_none="the model's own")
    guidance_scale: float | None = bounded(
        None, "0 or 1 for no guidance", least=0, most=1000, if_none="the model's own", metavar="X"
    )
    size: Size | None = option(None, "N|WxH", "pixels; one number for a square", "the model's own", parser=parse_size)

    @property
    def model_options(self) -> dict[str, Any]:
        """The given options under the names of `countgen.load`; the dtype by name."""
        size = self.size._asdict() if self.size else {}
        sampling = given(num_inference_steps=self.num_inference_steps, guidance_scale=self.guidance_scale, **size)
        return super().model_options | sampling


class NamedModel(Command, Device, Sampling):
    """The model that generates."""

    model: str = option(
        "miniature",
        MODEL_NAMES,
        "a preset's name, OWNER/NAME on the hub, the folder of a diffusers pipeline or a .safetensors file; "
        "@REVISION may follow the first two; or endpoint:URL#MODEL on a server",
    )

    def load(self, objects: Sequence[str], **more: Any) -> "countgen.Models":
        """Load the model and its detectors, with `more` arguments of `countgen.load`, and print what is chosen."""
        device = self.available_device()
        if self.text:
            more |= {"progress": True, "announce": announce}
        return countgen.load(self.model, objects=objects, device=device, **self.load_options, **more)


class Model(Output, NamedModel):
    """The model that generates, and output."""


class NegativePrompt(Group, panel="Model"):
    """A negative prompt."""

    negative_prompt: str | None = option(None, "TEXT", "what the image must not show; for models that use guidance")


class CalibrationFile(Group, panel="Model"):
    """A calibration of the number axis."""

    calibration: Path | None = option(
        None, "FILE", "from countgen calibrate, for P(right) and counts beyond the model's number words"
    )


class Trust(Group, panel="Detectors"):
    """Whether code in checkpoints may run."""

    trust_checkpoint: bool = flag(
        "trust-checkpoint", "let code in .pt files of detectors run, with your rights; else they are data"
    )


class Detectors(Trust):
    """The critics and the judge."""

    critic: list[str] | None = option(
        None,
        "NAME",
        "a detector that steers, or DETECTOR by DENSITY: counts of the first, gradient of the second; repeatable",
        "chosen by what is counted",
    )
    judge: str | None = option(None, "NAME", "a detector that only counts the result", "chosen by what is counted")

    @property
    def detector_options(self) -> dict[str, Any]:
        """The given options as keyword arguments of `countgen.load`."""
        return given(critics=self.critic, judge=self.judge, trust_checkpoint=self.trust_checkpoint)


def announce(choice: "Choice", missing: Sequence["Missing"]) -> None:
    """Print which detectors were chosen, and what will be downloaded of them."""
    if choice.because:
        print(fitted(f"detectors: {choice.described}"), flush=True)
    announce_downloads(missing)


def announce_downloads(missing: Sequence["Missing"], *, shown: bool = True) -> None:
    """Print what will be downloaded, if `shown`."""
    for files in missing if shown else ():
        print(fitted(f"will be downloaded: {files}"), flush=True)


class Settings(Group):
    """Settings of a method."""

    set: list[str] | None = option(None, "NAME=VALUE", "a setting of the method, such as learning_rate=0.1; repeatable")


def settings_help(default_method: str) -> Any:
    """Return an option that prints the settings of the method with meaning, accepted values and default, and exits."""

    def print_settings(context: Context, value: bool) -> None:
        if not value:
            return
        method = methods.load(context.params.get("method", default_method))
        print(fitted(f"{method.name}: {method.summary}"))
        settings = list(describe(method.settings_class()))
        for one in settings:
            print(fitted(f"  --set {one.name}={one.default}: {one.meaning}; {one.accepted}", hang=6))
        if not settings:
            print("  nothing can be set")
        raise Exit

    text = "list the settings of the method, which --method names before it, and exit"
    return Option(False, "--help-settings", callback=print_settings, help=text)


class Limits(Group, panel="Limits"):
    """When the work on an image ends."""

    until: Literal["critic", "judge"] = Option("critic", help="who must agree before the work ends")
    sure: float = bounded(
        methods.DEFAULT_SURE,
        "probability of a right count at which the critics agree; lower is faster",
        least=0,
        most=1,
        metavar="P",
    )
    worth: float | None = bounded(
        None, "evaluations that a right image is worth; the work also ends where more gain less", "400", metavar="N"
    )
    max_seconds: float | None = bounded(None, "time limit of each image", least=0, metavar="S")
    max_steps: int | None = bounded(None, "limit of steps of each image")
    max_evaluations: int | None = bounded(
        None, "limit of model evaluations of each image", if_none="400 without --max-seconds"
    )
