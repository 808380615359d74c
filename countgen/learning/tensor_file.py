"""Small safetensors files of trained tensors with facts about them; nothing in such a file is ever executed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from countgen.atomic_write import write_atomically

SUFFIX = ".safetensors"
_PICKLES = {".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle"}
_SHOWN = 200

DTYPES = {torch.float32: ("F32", "<f4"), torch.float16: ("F16", "<f2")}
"""The names of a dtype in safetensors and in numpy."""

T = TypeVar("T")


@dataclass(frozen=True)
class TensorFile:
    """One kind of file: tensors of one dtype, and facts as JSON in one entry of the metadata.

    There is one entry because safetensors does not keep the order of several, and equal content must give equal bytes.

    Attributes:
        what: what such a file holds, in messages.
        key: of the entry.
        schema: version of the facts; other versions are refused.
        max_bytes: size of the largest file.
        dtype: of all tensors, a key of `DTYPES`.
        error: class of all errors about content.
    """

    what: str
    key: str
    schema: int
    max_bytes: int
    dtype: torch.dtype
    error: type[ValueError]

    def save(self, data: bytes, path: str | Path, *, overwrite: bool) -> Path:
        """Write bytes from `encoded` atomically and return the path.

        Raises:
            error: the suffix is not ".safetensors", or the file exists and must not be overwritten.
            OSError: the folder is missing or cannot be written to.
        """
        path = Path(path)
        if path.suffix != SUFFIX:
            raise self.error(f"a file of a {self.what} ends with {SUFFIX}, got {path.name}")
        if path.exists() and not overwrite:
            raise self.error(f"{path} exists already; give another name, or overwrite=True")
        write_atomically(data, path)
        return path

    def read(self, path: str | Path) -> bytes:
        """Read the bytes of a file, at most one more than is allowed.

        Raises:
            FileNotFoundError: there is no such file.
            error: it is named like a pickle, or is no regular file.
        """
        path = Path(path)
        if path.suffix in _PICKLES:
            raise self.error(f"{path} is named like a pickle, which can run code; only {SUFFIX} files are read")
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise self.error(f"{path} is no file; give a {SUFFIX} file that holds a {self.what}")
        with path.open("rb") as file:
            return file.read(self.max_bytes + 1)

    def encoded(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> bytes:
        """Return the bytes of a file; equal tensors and facts give equal bytes.

        Raises:
            error: the file would be too large.
        """
        from safetensors.torch import save

        facts = {"schema": self.schema, **facts}
        ordered = {name: tensors[name].detach().cpu().contiguous().clone() for name in sorted(tensors)}
        entry = json.dumps({**facts, "digest": _digest(facts, ordered)}, sort_keys=True)
        data = save(ordered, {self.key: entry})
        if len(data) > self.max_bytes:
            raise self.error(f"the {self.what} takes {len(data)} bytes, at most {self.max_bytes} are allowed")
        return data

    def decoded(self, data: bytes, source: str, make: Callable[[dict[str, Any], dict[str, Tensor]], T]) -> T:
        """Return what a function makes of the facts and the tensors in the bytes of a file.

        Args:
            data: content of the file.
            source: name of the file in messages.
            make: gets facts without schema and digest, and tensors; what it raises about them becomes an `error`.

        Raises:
            error: too large, a pickle, damaged, of another kind or schema, or `make` refuses it.
        """
        from safetensors import SafetensorError, deserialize

        if len(data) > self.max_bytes:
            raise self.error(f"{source} is larger than {self.max_bytes} bytes, the most that a {self.what} takes")
        if data.startswith((b"PK", b"\x80")):
            raise self.error(f"{source} is a pickle, which can run code; only safetensors files are read")
        try:
            entries = dict(deserialize(data))
        except SafetensorError as error:
            raise self.error(f"{source} is not a safetensors file, or is damaged: {_short(error)}") from error
        try:
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            facts = json.loads((header.get("__metadata__") or {}).get(self.key, "{}"))
            if facts.get("schema") != self.schema:
                found = _short(facts.get("schema"))
                raise self.error(f"{source} holds no {self.what} of schema {self.schema}, but of schema {found}")
            tensors = {name: _tensor(entry, self.dtype) for name, entry in entries.items()}
            digest = facts.pop("digest")
            if digest != _digest(facts, tensors):
                raise self.error(f"{source} is damaged: its digest does not match its content")
            return make({name: value for name, value in facts.items() if name != "schema"}, tensors)
        except self.error:
            raise
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise self.error(f"{source} holds no valid {self.what}: {_short(error)}") from error


def fact(facts: Mapping[str, Any], name: str, expected_type: Any) -> Any:
    """Return a fact of a file, of an expected type.

    Raises:
        KeyError, ValueError: it is missing, or of another type.
    """
    value = facts[name]
    if not isinstance(value, expected_type) or isinstance(value, bool):
        raise ValueError(f"its {name} is {value!r}")
    return value


def _short(text: object) -> str:
    """Return what the file or a library says, escaped and short."""
    said = ascii(str(text))[1:-1]
    return said if len(said) <= _SHOWN else f"{said[: _SHOWN - 3]}..."


def _tensor(entry: Mapping[str, Any], dtype: torch.dtype) -> Tensor:
    if entry["dtype"] != DTYPES[dtype][0]:
        raise ValueError(f"tensors must be {DTYPES[dtype][0]}, got {entry['dtype']}")
    if not entry["data"]:
        raise ValueError("it holds an empty tensor")
    return torch.frombuffer(bytearray(entry["data"]), dtype=dtype).view(entry["shape"]).clone()


def _digest(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].numpy().astype(DTYPES[tensors[name].dtype][1]).tobytes())
    return digest.hexdigest()
