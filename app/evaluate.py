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
        description="Draw every prompt of a suite with every method, count with independent judges, and keep a record "
        "of each image. Whatever ends it, the same command goes on where it stopped. "
        "Exit code 1: some images failed.",
    )
    parser.set_defaults(run=run)
    evaluation.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Evaluate; 0 if every image was drawn, 1 if some failed.

    Raises:
        ValueError, OSError: bad input, or a folder that cannot be used.
    """
    if options.address is None:  # a cluster's devices are not this machine's
        options.device = available_device(options.device)
    return evaluation.run(options)
