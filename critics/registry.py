"""Find a critic by the name of its file in `critics/detectors/`."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from critics.base import Critic

_FOLDER = Path(__file__).parent / "detectors"


def available() -> tuple[str, ...]:
    """The critics there are, sorted; nothing is imported."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.py") if not path.stem.startswith("_")))


def check(name: str) -> None:
    """Refuse a name that is none of `available()`; nothing is imported.

    Raises:
        ValueError: no such critic; the near and the available names are listed.
    """
    if name not in available():
        near = difflib.get_close_matches(name, available(), n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"unknown critic {name!r}.{hint} Available: {', '.join(available())}")


def load(name: str, **options: Any) -> Critic:
    """Build a critic.

    Args:
        name: one of `available()`. It is checked before anything is imported, so a name from a
            configuration file can never load another module.
        **options: what that file's `load` takes, for example `weights=` and `device=`.

    Raises:
        ValueError: no such critic; the near and the available names are listed. Options it does not take, settings
            out of their range, or weights that are damaged or of another kind.
        FileNotFoundError: no such weights.
    """
    check(name)
    module = importlib.import_module(f"critics.detectors.{name}")
    taken = inspect.signature(module.load)
    try:
        taken.bind(**options)
    except TypeError as error:
        raise ValueError(f"{name}: {error}; it takes {', '.join(taken.parameters)}") from error
    try:
        critic: Critic = module.load(**options)
    except torch.OutOfMemoryError:
        raise
    except (SafetensorError, TypeError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        # What the libraries say of a damaged file.
        raise ValueError(
            f"no {name} can be read from {options.get('weights')}, it is damaged or something else: {error}"
        ) from error
    critic.check()
    return critic
