"""`countgen eval`: compare methods and backbones on a suite of prompts; the same command resumes."""

from __future__ import annotations

import argparse
from typing import Any

from app.loading import available_device
from benchmarks.evaluation import run as evaluation


def add_parser(commands: Any) -> None:
    """Add the command to the sub-parsers."""
    parser = commands.add_parser(
        "eval",
        help="compare methods on many prompts",
        description="Generate every prompt of a suite with every method, count with independent judges, and keep a "
        "record of each image. After an interruption the same command resumes the evaluation. "
        "The exit code is 1 if some images failed.",
    )
    parser.set_defaults(run=run)
    evaluation.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Run the evaluation; return 0 if every image was generated, 1 if some failed.

    Raises:
        ValueError, OSError: the options or the run folder cannot be used.
    """
    if options.address is None:  # with a cluster the device is on another machine
        options.device = available_device(options.device)
    return evaluation.run(options)
