"""Small safetensors files of trained tensors with facts about them; nothing in such a file is ever executed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from countgen.files.reading import read_bytes
from countgen.files.writing import write_atomically

SUFFIX = ".safetensors"
_PICKLES = {".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle"}
_SHOWN = 200

T = TypeVar("T")


@dataclass(frozen=True)
class TensorFile:
    """One kind of file: float32 tensors, and facts as JSON in one entry of the metadata.

    There is one entry because safetensors does not keep the order of several, and equal content must give equal bytes.

    Attributes:
        key: of the entry.
        what: such a file holds, in messages.
        schemas: versions of the facts that are read; others are refused.
        max_bytes: size of the largest file.
        smaller: what makes a file smaller, in messages.
        error: class of all errors about content.
    """

    key: str
    what: str
    schemas: tuple[int, ...]
    max_bytes: int
    smaller: str
    error: type[ValueError]

    def save(self, data: bytes, path: str | Path, *, overwrite: bool) -> Path:
        """Write the bytes of a file atomically and return the path.

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
        try:
            return read_bytes(path, self.max_bytes)
        except ValueError as error:
            raise self.error(f"{error}; give a {SUFFIX} file that holds a {self.what}") from error

    def packed(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> bytes:
        """Return the bytes of a file; equal tensors and facts give equal bytes.

        Raises:
            error: the file would be too large.
        """
        from safetensors.torch import save

        # Copies, because safetensors refuses tensors that share memory.
        ordered = {name: tensors[name].detach().cpu().contiguous().clone() for name in sorted(tensors)}
        data = save(ordered, {self.key: json.dumps(dict(facts), sort_keys=True)})
        if len(data) > self.max_bytes:
            raise self.error(
                f"the {self.what} takes {len(data)} bytes, at most {self.max_bytes} are allowed; {self.smaller}"
            )
        return data

    def opened(self, data: bytes, source: str, make: Callable[[dict[str, Any], dict[str, Tensor]], T]) -> T:
        """Return what a function makes of the facts and the tensors in the bytes of a file.

        Args:
            data: content of the file.
            source: name of the file in messages.
            make: checks facts and tensors; a ValueError or the like that it raises becomes an `error`.

        Raises:
            error: too large, a pickle, damaged, of another schema, or `make` refuses it.
        """
        from safetensors import SafetensorError, deserialize

        if len(data) > self.max_bytes:
            raise self.error(f"{source} is larger than {self.max_bytes} bytes, the most that a {self.what} takes")
        if data.startswith((b"PK", b"\x80")):
            raise self.error(f"{source} is a pickle, which can run code; only safetensors files are read")
        try:
            entries = dict(deserialize(data))
        except SafetensorError as error:
            raise self.error(f"{source} is not a safetensors file, or is damaged: {short(error)}") from error
        try:
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            metadata = header.get("__metadata__") or {}
            facts = json.loads(metadata.get(self.key, "{}"))
            if facts.get("schema") not in self.schemas:
                raise self.error(
                    f"{source} holds no {self.what} that this version reads: it has the schema "
                    f"{short(facts.get('schema'))}, this version reads {' and '.join(map(str, self.schemas))}"
                )
            return make(facts, {name: _tensor(entry) for name, entry in entries.items()})
        except self.error:
            raise
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise self.error(f"{source} holds no valid {self.what}: {short(error)}") from error


def fact(facts: Mapping[str, Any], name: str, expected_type: Any) -> Any:
    """Return a fact of a file, of an expected type.

    Raises:
        KeyError, ValueError: it is missing, or of another type.
    """
    value = facts[name]
    if not isinstance(value, expected_type) or (isinstance(value, bool) and expected_type is not bool):
        raise ValueError(f"its {name} is {value!r}")
    return value


def short(text: object) -> str:
    """Return a text from a file or a library, escaped and at most 200 characters long."""
    escaped = ascii(str(text))[1:-1]
    return escaped if len(escaped) <= _SHOWN else f"{escaped[: _SHOWN - 3]}..."


def bytes_of(tensor: Tensor) -> bytes:
    """Return the values of a float32 tensor as bytes, little-endian on every machine."""
    return tensor.detach().cpu().contiguous().numpy().astype("<f4").tobytes()


def _tensor(entry: Mapping[str, Any]) -> Tensor:
    if entry["dtype"] != "F32":
        raise ValueError(f"tensors must be F32, got {entry['dtype']}")
    if not entry["data"]:
        raise ValueError("it holds an empty tensor")
    return torch.frombuffer(bytearray(entry["data"]), dtype=torch.float32).view(entry["shape"]).clone()
