"""Find a method by the name of its file in `countgen/methods/`."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

if TYPE_CHECKING:
    from countgen.methods.settings import Settings
    from countgen.methods.step import Step

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Method:
    """A method that steers a backbone to the right counts.

    Attributes:
        name: of its file.
        function: generator function `(problem, seed, budget, settings) -> Iterator[Step]`.
        settings_class: frozen dataclass of its settings; without arguments it gives the defaults.
        summary: first sentence of the function's docstring.
        calibrated: whether the file sets `CALIBRATED = True`: counts that no number word of the model reaches are then
            moved along the number axis by the model's calibration; other methods encode the prompt as written.
        starts_from_image: whether the file sets `STARTS_FROM_IMAGE = True`: `Problem.latents` may then be given.
    """

    name: str
    function: Callable[..., Iterator[Step]]
    settings_class: type[Settings]
    summary: str
    calibrated: bool = False
    starts_from_image: bool = False


@cache
def available() -> tuple[str, ...]:
    """Return the names of the methods, sorted: files that define a function of the file's name.

    Nothing is imported.
    """
    files = _FOLDER.glob("*.py")
    return tuple(sorted(path.stem for path in files if f"\ndef {path.stem}(problem" in path.read_text("utf-8")))


def check(name: str) -> None:
    """Check that a name is in `available()`; nothing is imported.

    Raises:
        ValueError: no such method; the near and the available names are listed.
    """
    if name not in available():
        near = difflib.get_close_matches(str(name), available(), n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(f"unknown method {name!r}.{hint} Available: {', '.join(available())}")


def load(name: str) -> Method:
    """Import a method.

    Args:
        name: one of `available()`; checked before anything is imported.

    Raises:
        ValueError: no such method; the near and the available names are listed.
    """
    check(name)
    module = importlib.import_module(f"countgen.methods.{name}")
    function: Any = getattr(module, name)
    return Method(
        name,
        function,
        get_type_hints(function)["settings"],
        summary=(function.__doc__ or "").partition("\n")[0],  # python -OO drops docstrings
        calibrated=getattr(module, "CALIBRATED", False),
        starts_from_image=getattr(module, "STARTS_FROM_IMAGE", False),
    )
