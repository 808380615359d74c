"""Detectors as a command's options name them, or as they are chosen by what is counted."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from countgen.app.argument_types import add_trust_checkpoint
from countgen.app.terminal import fitted

if TYPE_CHECKING:
    from countgen.detector_choice import Choice


def add_detectors(parser: argparse.ArgumentParser) -> None:
    """Add the options that name the critics and the judge."""
    parser.add_argument(
        "--critic",
        action="append",
        metavar="NAME",
        help="a detector that steers; repeatable (chosen by what is counted)",
    )
    parser.add_argument(
        "--judge", metavar="NAME", help="a detector that only counts at the end (chosen by what is counted)"
    )
    add_trust_checkpoint(parser)


def chosen_detectors(
    options: argparse.Namespace,
    objects: Sequence[str],
    *,
    text: bool,
    model_name: str | None = None,
    download: bool = True,
) -> Choice:
    """Choose and check the detectors before anything is loaded, and say which they are.

    Args:
        options: with `critic`, `judge` and, where `model_name` is not given, `model`.
        objects: what is counted.
        text: print the choice, and what will be downloaded.
        model_name: of the backbone, where it is known already.
        download: otherwise missing files are refused.

    Raises:
        ValueError: an unknown detector, a judge that is also a critic, or files are missing and `download` is off.
        FileNotFoundError: files are missing and may not be downloaded.
    """
    from countgen.backbones.sources import find_source
    from countgen.detector_choice import choose
    from countgen.files.printable import printable
    from countgen.models import check_detectors

    choice = choose(model_name or find_source(options.model).name, objects, options.critic, options.judge)
    if text and choice.because:
        print(fitted(f"detectors: {printable(choice.described, 400)}"), flush=True)
    missing = check_detectors((*choice.critics, choice.judge))
    if missing and not download:
        raise ValueError(f"{'; '.join(map(str, missing))} is not here; give --yes to download it")
    if text:
        for one in missing:
            print(fitted(f"will be downloaded: {printable(str(one), 400)}"))
    return choice
