"""Read an Ultralytics `.pt`, a pickle of modules, as data: only functions that build tensors are called.

Every class that the file names becomes a `Part` without behaviour. No code of the file's author runs, and no
constructor is called with the author's arguments, as Ultralytics' own safe loading (`ULTRALYTICS_SAFE_LOAD`) does: one
of its layers downloads weights. The model is built anew from the description and the tensors in the file.
Ultralytics is licensed under AGPL-3.0.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from countgen.critics import ultralytics_yaml

MAX_PICKLE_BYTES = 64 * 1024 * 1024
"""Largest size of the objects without their tensors; the largest of Ultralytics' detectors take less than 1 MiB."""
MAX_PARTS = 100_000
MAX_EMBEDDING = 4096
MAX_IMAGE_SIZE = 8192

_DTYPES = {
    **{"DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16},
    **{"BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32},
    **{"ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool},
}
_INERT = ("torch", "torchvision", "ultralytics", "numpy", "pathlib", "_codecs", "copyreg", "copy_reg", "models")
"""Packages whose classes a checkpoint names; each becomes a `Part`."""


@dataclass(frozen=True)
class Contents:
    """The content of a checkpoint.

    Attributes:
        described: the model's description, checked.
        tensors: its parameters and buffers by name.
        text: embeddings of its classes, if it holds some, by the attribute's name: (1, K, D).
        image_size: of its training; None where the file does not state it.
    """

    described: dict[str, Any]
    tensors: dict[str, Tensor]
    text: dict[str, Tensor]
    image_size: int | None


class Part:
    """An object of the file: its attributes without any behaviour."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Ignore the arguments that the file gives its constructor."""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update({name: value for name, value in state.items() if isinstance(name, str)})


class _Unpickler(pickle._Unpickler):  # in Python: the one in C allocates any amount that a file states
    """An unpickler that builds tensors, containers and parts only.

    Args:
        objects: the pickle.
        storage: function from the key of a storage to its bytes.
    """

    # Without the one that reserves as many bytes as the file says; no checkpoint holds a bytearray.
    dispatch = {  # noqa: RUF012 - as its base class has it
        code: read for code, read in pickle._Unpickler.dispatch.items() if code != pickle.BYTEARRAY8[0]
    }

    def __init__(self, objects: bytes, storage: Callable[[str], bytes]) -> None:
        super().__init__(io.BytesIO(objects))
        self._storage = storage
        self._storages: dict[str, tuple[bytearray, torch.dtype]] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return the replacement of a class or function that the file names; nothing is imported.

        Raises:
            ValueError: no detector needs that class or function.
        """
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module in ("builtins", "__builtin__") and name == "set":
            return set
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
            # A new function each time, since a pickle can set attributes of the functions that it names.
            return (lambda *given: _tensor(*given)) if name == "_rebuild_tensor_v2" else (lambda data, *_: data)
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if module == "torch" and name == "Size":
            return lambda values: tuple(values)
        if module.partition(".")[0] not in _INERT and (module.lstrip("_"), name) not in _NAMED:
            raise ValueError(
                f"it names {f'{module}.{name}'[:80]!r}, which no detector needs; loading it would run that"
            )
        return type("Part", (Part,), {})

    def persistent_load(self, saved: Any) -> tuple[bytearray, torch.dtype]:
        """Return the bytes of a storage, read once, and their dtype."""
        _, dtype, key, _, count = saved
        if not isinstance(dtype, torch.dtype) or not isinstance(key, str) or not isinstance(count, int):
            raise ValueError("it holds a storage of an unknown type")
        if key not in self._storages:
            self._storages[key] = bytearray(self._storage(key)), dtype
        return self._storages[key]


_NAMED = {("builtins", name) for name in ("getattr", "object", "slice")} | {("builtin__", "getattr")}


def _tensor(
    storage: tuple[bytearray, torch.dtype], offset: int, size: Sequence[int], stride: Sequence[int], *_: Any
) -> Tensor:
    """Return a tensor in the bytes of a storage; torch refuses positions outside them."""
    content, dtype = storage
    if 0 in size:
        return torch.empty(tuple(size), dtype=dtype)
    needed = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True)) + 1
    elements = 1
    for length in size:
        elements *= length
    if min(offset, *size, *stride, 0) < 0 or not max(needed, elements) * dtype.itemsize <= len(content):
        raise ValueError(f"it holds a tensor {tuple(size)} in {len(content)} bytes")
    return torch.frombuffer(content, dtype=dtype).as_strided(tuple(size), tuple(stride), offset)


def read(path: Path) -> Contents:
    """Return the description and the tensors in a checkpoint.

    Raises:
        ValueError: it is no checkpoint, is damaged, or holds an object that is not supported.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            saved = _unpickled(archive)
    except ValueError:
        raise
    except Exception as error:  # whatever a damaged or hostile pickle makes the unpickler trip over
        said = str(error).split("\n", 1)[0][:200]
        raise ValueError(f"it is damaged or something else: {type(error).__name__}: {said}") from error
    models = (saved.get("ema"), saved.get("model")) if isinstance(saved, dict) else ()
    model = next((one for one in models if isinstance(one, Part)), None)
    described = None if model is None else vars(model).get("yaml")
    if model is None or not isinstance(described, Mapping):
        raise ValueError("it holds no model with a description; a checkpoint of Ultralytics has both")
    attributes = vars(model)
    named = (attributes.get("names"), described.get("names"))
    names = next((one for one in named if isinstance(one, Mapping | list | tuple) and len(one)), None)
    described = ultralytics_yaml.checked({**described, "names": names}, "its description")
    text = {name: _text(attributes.get(name), len(described["names"])) for name in ("pe", "txt_feats")}
    arguments = saved.get("train_args")
    return Contents(
        described=described,
        tensors=_state(model),
        text={name: value for name, value in text.items() if value is not None},
        image_size=_image_size(arguments.get("imgsz") if isinstance(arguments, Mapping) else None),
    )


def _unpickled(archive: zipfile.ZipFile) -> Any:
    folders = [name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("data.pkl")]
    if len(folders) != 1:
        raise ValueError("it is damaged or something else than a checkpoint")
    folder = folders[0]
    if f"{folder}constants.pkl" in archive.namelist():
        raise ValueError("it is TorchScript, a program; give the checkpoint that it was exported from")
    if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
        raise ValueError("it was written on a machine of another byte order")
    for entry in archive.infolist():
        if entry.compress_type != zipfile.ZIP_STORED:
            raise ValueError("it is compressed, which no checkpoint is")
    if archive.getinfo(f"{folder}data.pkl").file_size > MAX_PICKLE_BYTES:
        raise ValueError(f"its objects take more than {MAX_PICKLE_BYTES} bytes")
    objects = archive.read(f"{folder}data.pkl")
    return _Unpickler(objects, lambda key: archive.read(f"{folder}data/{key}")).load()


def _state(model: Part) -> dict[str, Tensor]:
    """Return the parameters and buffers, as `state_dict` names them."""
    found: dict[str, Tensor] = {}
    left = [("", model)]
    for seen, (prefix, part) in enumerate(left):
        if max(seen, len(left)) > MAX_PARTS:
            raise ValueError(f"it holds more than {MAX_PARTS} modules")
        unsaved = _held(part, "_non_persistent_buffers_set", set)
        for kind in ("_parameters", "_buffers"):
            for name, value in _held(part, kind, dict).items():
                if isinstance(value, Tensor) and isinstance(name, str) and name not in unsaved:
                    found[f"{prefix}{name}"] = value
        for name, module in _held(part, "_modules", dict).items():
            if isinstance(module, Part) and isinstance(name, str) and len(prefix) < 1000:
                left.append((f"{prefix}{name}.", module))
    return found


def _held(part: Part, name: str, kind: type) -> Any:
    value = vars(part).get(name)
    return value if isinstance(value, kind) else kind()


def _text(value: Any, classes: int) -> Tensor | None:
    """Return the embeddings in float32, if the value holds one for each class."""
    if not isinstance(value, Tensor) or value.ndim != 3 or value.shape[2] > MAX_EMBEDDING:
        return None
    return value.float() if value.shape[:2] == (1, classes) else None


def _image_size(stored: Any) -> int | None:
    sizes = stored if isinstance(stored, list | tuple) else [stored]
    if sizes and all(isinstance(one, int) and 1 <= one <= MAX_IMAGE_SIZE for one in sizes):
        return max(sizes)
    return None
