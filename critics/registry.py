"""Find a critic by the name of its file in `critics/detectors/`."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from countgen.critics.base import Critic
from countgen.critics.weights import one_line

_FOLDER = Path(__file__).parent / "detectors"


def available() -> tuple[str, ...]:
    """Return the names of the critics, sorted; nothing is imported."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.py") if not path.stem.startswith("_")))


def check(name: str) -> None:
    """Raise unless a name is in `available()`; nothing is imported.

    Raises:
        ValueError: no such critic; the near and the available names are listed.
    """
    if name not in available():
        near = difflib.get_close_matches(name, available(), n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"unknown critic {name!r}.{hint} Available: {', '.join(available())}")


def load(
    name: str,
    *,
    weights: str | Path | None = None,
    config: str | Path | None = None,
    revision: str | None = None,
    embeddings: Mapping[str, Tensor] | str | Path | None = None,
    tokenizer: str | None = None,
    image_size: int | None = None,
    threshold: float | None = None,
    nms_iou: float | None = None,
    steepness: float | None = None,
    trust_checkpoint: bool | None = None,
    device: str | torch.device = "cpu",
) -> Critic:
    """Load a critic by the name of its file.

    An option of None takes the critic's own default. Every critic takes the fields of `CriticSettings` that apply to
    it, and the options of `load` in its file.

    Args:
        name: one of `available()`. It is checked before anything is imported, so a name from a
            configuration file can never load another module.
        weights: a file, a folder, a repository on the hub or the name of a preset.
        config: the architecture's yaml, for Ultralytics models in safetensors.
        revision: a branch, tag or commit of the repository.
        embeddings: of the texts that YOLO-World detects.
        tokenizer: of a text-conditional counter.
        image_size, threshold, nms_iou, steepness: see `countgen.critics.settings.CriticSettings`.
        trust_checkpoint: let Ultralytics load a `.pt`, a pickle, which runs any code in it.
        device: where it runs.

    Raises:
        ValueError: no such critic (the message lists near and available names), an option that it does not take, a
            setting outside its range, or weights that are damaged or of another architecture.
        FileNotFoundError: no such weights.
    """
    options = {
        "weights": weights,
        "config": config,
        "revision": revision,
        "embeddings": embeddings,
        "tokenizer": tokenizer,
        "trust_checkpoint": trust_checkpoint,
        "device": device,
    }
    settings = {"image_size": image_size, "threshold": threshold, "nms_iou": nms_iou, "steepness": steepness}
    options = {option: value for option, value in options.items() if value is not None}
    settings = {setting: value for setting, value in settings.items() if value is not None}
    check(name)
    module = importlib.import_module(f"countgen.critics.detectors.{name}")
    taken = inspect.signature(module.load)
    try:
        taken.bind(**options)
    except TypeError as error:
        raise ValueError(f"{name}: {error}; it takes {', '.join(taken.parameters)}") from error
    try:
        critic: Critic = module.load(**options)
        critic.configure(**settings)
    except (ValueError, OSError, ImportError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # of any type: what the detector's library raises for a damaged file
        raise ValueError(
            f"cannot read {name} from {options.get('weights')}, it is damaged or something else: {one_line(error)}"
        ) from error
    return critic
