"""Find a critic by the name of its file in `critics/detectors/`, or of a plug-in."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from countgen import plugins
from countgen.critics.base import Critic
from countgen.critics.settings import CriticSettings
from countgen.critics.weights import explained

_FOLDER = Path(__file__).parent / "detectors"


@cache
def _own() -> tuple[str, ...]:
    return tuple(path.stem for path in _FOLDER.glob("*.py") if not path.stem.startswith("_"))


def available() -> tuple[str, ...]:
    """Return the names of the critics, plug-ins included, sorted; nothing is imported."""
    return tuple(sorted({*_own(), *plugins.names("critics")}))


def check(name: str) -> None:
    """Raise unless a name is in `available()`; nothing is imported.

    Raises:
        ValueError: no such critic; the near and the available names are listed.
    """
    plugins.check_name("critic", name, available())


def load(name: str, **options: Any) -> Critic:
    """Load a critic by the name of its file or plug-in.

    Args:
        name: one of `available()`. It is checked before anything is imported, so a name from a configuration file can
            never load another module.
        **options: those of `load` in the critic's file, such as `weights`, `revision` and `device`, and the fields of
            `CriticSettings` that apply to it. An option of None takes the critic's own default.

    Raises:
        ValueError: no such critic (the message lists near and available names), an option that it does not take, a
            setting outside its range, or weights that are damaged or of another architecture.
        FileNotFoundError: no such weights.
    """
    check(name)
    own = name in _own()
    build = importlib.import_module(f"countgen.critics.detectors.{name}").load if own else plugins.load("critics", name)
    options = {option: value for option, value in options.items() if value is not None}
    settings = {
        setting.name: options.pop(setting.name) for setting in fields(CriticSettings) if setting.name in options
    }
    taken = inspect.signature(build)
    try:
        taken.bind(**options)
    except TypeError as error:
        accepted = (*taken.parameters, *(setting.name for setting in fields(CriticSettings)))
        raise ValueError(f"{name}: {error}; it takes {', '.join(accepted)}") from error
    problem = f"cannot read {name} from {options.get('weights')}, it is damaged or something else"
    with explained(problem, ValueError, OSError, ImportError):
        critic: Critic = build(**options)
        critic.configure(**settings)
    return critic
