"""Read an Ultralytics `.pt`, a pickle of modules, as data: only functions of torch that build tensors are called.

Every class that the file names becomes an `InertObject`, so that no code of the file's author runs and no constructor
is called with the author's arguments, as Ultralytics' own safe loading (`ULTRALYTICS_SAFE_LOAD`) does: one of its
layers downloads weights. The model is built anew from the description and the tensors in the file.
Ultralytics is licensed under AGPL-3.0.
"""

from __future__ import annotations

import _compat_pickle
import pickletools
import re
import threading
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from countgen.critics import ultralytics_yaml
from countgen.critics.weights import explained
from countgen.files.printable import printable

MAX_PICKLE_BYTES = 64 * 1024 * 1024
"""Largest size of the objects without their tensors; the largest of Ultralytics' detectors take less than 1 MiB."""
MAX_MODULES = 100_000
MAX_IMAGE_SIZE = 8192

# Names as pickles write them: the module, a space, and the class or function. torch.load calls more functions than
# these by itself, some of which reserve as much memory as the file says.
_CALLED = re.compile(
    r"collections OrderedDict|(builtins|__builtin__) set|_codecs encode|torch\._utils _rebuild_(tensor_v2|parameter)"
    r"|torch (Size|device|\w+Storage|\w*(float|int)\d+)"
)
_INERT = re.compile(
    r"(torch\.(nn\.modules|nn\.parameter|optim)|torchvision|ultralytics|numpy|pathlib|copyreg|copy_reg|models)\b.* .*"
    r"|(builtins|__builtin__) (getattr|object|slice)"
)
_LOADING = threading.Lock()  # what torch.load accepts is a setting of the process


@dataclass(frozen=True)
class Contents:
    """The content of a checkpoint.

    Attributes:
        described: the model's description, checked.
        tensors: its parameters and buffers by name.
        text: embeddings of its classes by the attribute's name: (1, K, D); empty if it holds none.
        image_size: of its training; None if the file does not state it.
    """

    described: dict[str, Any]
    tensors: dict[str, Tensor]
    text: dict[str, Tensor]
    image_size: int | None


class InertObject:
    """An object of the file: its attributes without any behaviour."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Ignore the arguments that the file gives its constructor."""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update({name: value for name, value in state.items() if isinstance(name, str)})


def read(path: Path) -> Contents:
    """Return the description and the tensors in a checkpoint.

    Raises:
        ValueError: it is not a checkpoint, is damaged, or holds an object that is not supported.
    """
    with explained("it is damaged or something else", ValueError):
        saved = _unpickled(path)
    models = (saved.get("ema"), saved.get("model")) if isinstance(saved, dict) else ()
    model = next((value for value in models if isinstance(value, InertObject)), None)
    described = None if model is None else vars(model).get("yaml")
    if model is None or not isinstance(described, Mapping):
        raise ValueError("it holds no model with a description; a checkpoint of Ultralytics has both")
    attributes = vars(model)
    names = attributes.get("names") or described.get("names")
    described = ultralytics_yaml.checked({**described, "names": names}, "its description")
    text = {name: _text(attributes.get(name), len(described["names"])) for name in ("pe", "txt_feats")}
    arguments = saved.get("train_args")
    return Contents(
        described=described,
        tensors=_state(model),
        text={name: value for name, value in text.items() if value is not None},
        image_size=_image_size(arguments.get("imgsz") if isinstance(arguments, Mapping) else None),
    )


def _unpickled(path: Path) -> Any:
    """Return the objects in a file, in which every class is an `InertObject`."""
    with zipfile.ZipFile(path) as archive:
        names = [entry.filename.lower() for entry in archive.infolist()]  # torch does not distinguish case
        pickles = [entry for entry in archive.infolist() if entry.filename.endswith("data.pkl")]
        if len(pickles) != 1 or len(set(names)) < len(names):
            raise ValueError("it is damaged or something else than a checkpoint")
        if any(name.endswith("constants.pkl") for name in names):
            raise ValueError("it is TorchScript, a program; give the checkpoint that it was exported from")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("it is compressed, which no checkpoint is")
        if pickles[0].file_size > MAX_PICKLE_BYTES:
            raise ValueError(f"its objects take more than {MAX_PICKLE_BYTES} bytes")
        objects = archive.read(pickles[0])
    named = {str(argument) for opcode, argument, _ in pickletools.genops(objects) if opcode.name == "GLOBAL"}
    replaced = set()
    for name in sorted(named):
        if not _CALLED.fullmatch(name) and not _INERT.fullmatch(name):
            shown = printable(name.replace(" ", "."), 80)
            raise ValueError(f"it names {shown!r}, which no detector needs; loading it would run that")
        module, _, attribute = name.partition(" ")
        if not _CALLED.fullmatch(name):
            replaced.add((InertObject, f"{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{attribute}"))
    with _LOADING, torch.serialization.safe_globals(list(replaced)):
        return torch.load(path, map_location="cpu", weights_only=True)


def _state(model: InertObject) -> dict[str, Tensor]:
    """Return the parameters and buffers, as `state_dict` names them."""
    tensors: dict[str, Tensor] = {}
    waiting = [("", model)]
    for seen, (prefix, module) in enumerate(waiting):
        if max(seen, len(waiting)) > MAX_MODULES:
            raise ValueError(f"it holds more than {MAX_MODULES} modules")
        unsaved = _held(module, "_non_persistent_buffers_set", set)
        for kind in ("_parameters", "_buffers"):
            for name, value in _held(module, kind, dict).items():
                if isinstance(value, Tensor) and isinstance(name, str) and name not in unsaved:
                    tensors[f"{prefix}{name}"] = value
        for name, inner in _held(module, "_modules", dict).items():
            if isinstance(inner, InertObject) and isinstance(name, str) and len(prefix) < 1000:
                waiting.append((f"{prefix}{name}.", inner))
    return tensors


def _held(module: InertObject, name: str, kind: type) -> Any:
    value = vars(module).get(name)
    return value if isinstance(value, kind) else kind()


def _text(value: Any, classes: int) -> Tensor | None:
    """Return the embeddings in float32, if the value holds one for each class."""
    matches = isinstance(value, Tensor) and value.ndim == 3 and value.shape[:2] == (1, classes)
    return value.float() if matches else None


def _image_size(stored: Any) -> int | None:
    sizes = stored if isinstance(stored, list | tuple) else [stored]
    if sizes and all(isinstance(size, int) and 1 <= size <= MAX_IMAGE_SIZE for size in sizes):
        return max(sizes)
    return None
