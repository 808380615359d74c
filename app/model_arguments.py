"""Options of every command that loads a model, and what they ask of `countgen.load`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from countgen.app.argument_types import sampler_steps, size, weight

MODEL_HELP = (
    "the model that generates: a preset's name, OWNER/NAME on the hub, the folder of a diffusers pipeline or a "
    ".safetensors file; @REVISION may follow the first two"
)
METAVAR = "NAME|HUB-ID|FOLDER|FILE[@REVISION]"
DTYPES = ("float32", "float16", "bfloat16")
_SAME_NAME = ("num_inference_steps", "guidance_scale", "scheduler", "memory", "dtype")
"""Options that `countgen.load` calls the same."""


def add_model(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Add `--model`; the embedded miniature by default, or a list of models for a command that takes several."""
    if several:
        parser.add_argument(
            "--model", action="append", metavar=METAVAR, help=f"{MODEL_HELP}; repeatable (the embedded ones)"
        )
    else:
        parser.add_argument("--model", default="miniature", metavar=METAVAR, help=f"{MODEL_HELP} (%(default)s)")


def add_loading(parser: argparse.ArgumentParser) -> None:
    """Add how a model is loaded: its adapters, its scheduler, its number format, and what memory it takes."""
    add_loras(parser)
    parser.add_argument("--scheduler", metavar="CLASS", help="a scheduler of diffusers in place of the model's own")
    parser.add_argument("--dtype", choices=DTYPES, help="number format of the model (float32 on a CPU, else its own)")
    parser.add_argument("--memory", choices=("fast", "low"), help="low: slower, for devices with little memory (fast)")


def add_loras(parser: argparse.ArgumentParser) -> None:
    """Add `--lora`."""
    parser.add_argument(
        "--lora",
        action="append",
        default=[],
        metavar="FILE|ID[:WEIGHT]",
        help="a LoRA adapter and how much of it (1); repeatable; needs peft",
    )


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """Add how each image is sampled."""
    parser.add_argument(
        "--num-inference-steps", type=sampler_steps, metavar="N", help="sampler steps of each image (the model's own)"
    )
    parser.add_argument("--guidance-scale", type=weight, metavar="X", help="0 or 1 for no guidance (the model's own)")
    parser.add_argument(
        "--size",
        type=size,
        metavar="N|WxH",
        help="pixels, width x height; one number for a square (the model's own)",
    )


def add_negative_prompt(parser: argparse.ArgumentParser) -> None:
    """Add `--negative-prompt`."""
    parser.add_argument(
        "--negative-prompt", metavar="TEXT", help="what the image shall not show; for models that use guidance"
    )


def add_calibration(parser: argparse.ArgumentParser) -> None:
    """Add `--calibration`."""
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="of the number slider, for counts that no number word reaches: one that countgen calibrate wrote",
    )


def given_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return what the options of `add_loading` and `add_sampling` say by the names of `countgen.load`.

    What they leave to the model is left out, and the dtype is its name.
    """
    width, height = getattr(options, "size", None) or (None, None)
    given = {name: getattr(options, name, None) for name in _SAME_NAME}
    given |= {"width": width, "height": height, "loras": tuple(options.lora) or None}
    return {name: value for name, value in given.items() if value is not None}


def asked_of_load(options: argparse.Namespace) -> dict[str, Any]:
    """Return what the options ask of `countgen.load`, without what they leave to the model."""
    import torch

    given = given_of(options)
    return given | ({"dtype": getattr(torch, given["dtype"])} if "dtype" in given else {})
