"""Find a method: by the name of its file in `countgen/methods/`, of a plug-in, or as a function."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, get_type_hints

from countgen import plugins

if TYPE_CHECKING:
    from countgen.methods.settings import Settings

_FOLDER = Path(__file__).parent
MethodFunction: TypeAlias = Callable[..., Iterator[Any]]
"""A generator function `(problem, seed, budget, settings) -> Iterator[Step]`."""


@dataclass(frozen=True)
class Method:
    """A method that steers a backbone to the right counts.

    Attributes:
        name: of its file, of the plug-in, or of the function.
        function: yields a `Step` for each candidate.
        settings_class: frozen dataclass of its settings; without arguments it gives the defaults.
        summary: first sentence of the function's docstring.
        calibrated: whether the function's file sets `CALIBRATED = True`: counts that no number word of the model
            reaches are then moved along the number axis by the model's calibration; other methods encode the prompt
            as written.
        starts_from_image: whether the function's file sets `STARTS_FROM_IMAGE = True`: `Problem.latents` may then be
            given.
        seeds_only: whether the function's file sets `SEEDS_ONLY = True`: it needs no gradient, and no latents but those
            of seeds.
    """

    name: str
    function: MethodFunction
    settings_class: type[Settings]
    summary: str
    calibrated: bool = False
    starts_from_image: bool = False
    seeds_only: bool = False


@cache
def _own() -> tuple[str, ...]:
    names = (path.stem for path in _FOLDER.glob("*.py"))
    return tuple(name for name in names if f"\ndef {name}(problem" in _source(name))


def _source(name: str) -> str:
    return (_FOLDER / f"{name}.py").read_text("utf-8")


def available() -> tuple[str, ...]:
    """Return the names of the methods, sorted: files that define a function of the file's name, and plug-ins.

    Nothing is imported.
    """
    return tuple(sorted({*_own(), *plugins.names("methods")}))


def seeds_only() -> tuple[str, ...]:
    """Return the names of our methods that need no gradient, sorted; nothing is imported."""
    return tuple(name for name in sorted(_own()) if "\nSEEDS_ONLY = True" in _source(name))


def name_of(method: str | MethodFunction) -> str:
    """Return what records call a method."""
    return method if isinstance(method, str) else getattr(method, "__name__", type(method).__name__)


def check(method: str | MethodFunction) -> None:
    """Check that a name is in `available()`; nothing is imported.

    Raises:
        ValueError: no such method; the near and the available names are listed.
    """
    if not callable(method):
        plugins.check_name("method", method, available())


def load(method: str | MethodFunction) -> Method:
    """Import a method.

    Args:
        method: one of `available()`, checked before anything is imported; or the function itself, whose parameter
            `settings` has a subclass of `Settings` as its annotation.

    Raises:
        ValueError: no such method; the near and the available names are listed. A plug-in that cannot be imported, or a
            function without annotated settings.
    """
    check(method)
    if callable(method):
        function: Any = method
    elif method in _own():
        function = getattr(importlib.import_module(f"countgen.methods.{method}"), method)
    else:
        function = plugins.load("methods", method)
    name, settings_class = name_of(method), get_type_hints(function).get("settings")
    if settings_class is None:
        raise ValueError(f"the method {name} has no annotated parameter `settings`; see docs/add-a-method.md")
    module = sys.modules.get(function.__module__)
    return Method(
        name,
        function,
        settings_class,
        summary=(function.__doc__ or "").partition("\n")[0],  # python -OO drops docstrings
        calibrated=getattr(module, "CALIBRATED", False),
        starts_from_image=getattr(module, "STARTS_FROM_IMAGE", False),
        seeds_only=getattr(module, "SEEDS_ONLY", False),
    )
