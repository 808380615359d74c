"""Detectors as a command's options name them, or as they are chosen by what is counted."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.terminal import fitted

if TYPE_CHECKING:
    from countgen.detector_choice import Choice


def chosen_detectors(options: argparse.Namespace, objects: Sequence[str], *, text: bool) -> Choice:
    """Choose and check the detectors before anything is loaded, and say which they are.

    Args:
        options: with `model`, `critic` and `judge`.
        objects: what is counted.
        text: print the choice, and what will be downloaded.

    Raises:
        ValueError: an unknown detector, or a judge that is also a critic.
        FileNotFoundError: files are missing and may not be downloaded.
    """
    from countgen.backbones.sources import find_source
    from countgen.detector_choice import choose
    from countgen.models import check_detectors
    from countgen.printable import printable

    choice = choose(find_source(options.model).name, objects, options.critic, options.judge)
    if text and choice.because:
        print(fitted(f"detectors: {printable(choice.described, 400)}"), flush=True)
    missing = check_detectors((*choice.critics, choice.judge))
    if text:
        for one in missing:
            print(fitted(f"will be downloaded: {printable(str(one), 400)}"))
    return choice
