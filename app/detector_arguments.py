"""Detectors as a command's options name them, or as they are chosen by what is counted."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from countgen.app.argument_types import add_trust_checkpoint
from countgen.app.terminal import fitted

if TYPE_CHECKING:
    from countgen.detector_choice import Choice
    from countgen.detector_files import Missing


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


def detectors_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the detectors that the options name, and whether their code may run, as `countgen.load` takes them."""
    named = {"critics": options.critic, "judge": options.judge, "trust_checkpoint": options.trust_checkpoint}
    return {name: value for name, value in named.items() if value is not None}


def announced(*, text: bool, download: bool = True) -> Callable[[Choice, Sequence[Missing]], None]:
    """Return a function that says which detectors are used and what is downloaded, for `countgen.load`.

    Args:
        text: print the choice, and what will be downloaded.
        download: otherwise missing files are a ValueError.
    """
    from countgen.files.printable import printable

    def announce(choice: Choice, missing: Sequence[Missing]) -> None:
        if text and choice.because:
            print(fitted(f"detectors: {printable(choice.described, 400)}"), flush=True)
        if missing and not download:
            raise ValueError(f"{'; '.join(map(str, missing))} is not here; give --yes to download it")
        for files in missing if text else ():
            print(fitted(f"will be downloaded: {printable(str(files), 400)}"))

    return announce
