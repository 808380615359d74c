"""A learned count token, and the safetensors file that other programs read as a textual inversion.

Tensor keys are those that diffusers, A1111/Forge and ComfyUI know: the placeholder for a model with one CLIP encoder,
otherwise "clip_l", "clip_g" and "t5". Everything else about the token is in the file's metadata.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from countgen.atomic_write import write_whole
from countgen.errors import TokenFileError
from countgen.prompts.placeholders import PLACEHOLDER, placeholder_of

SUFFIX = ".safetensors"
METADATA_KEY = "countgen"
"""Of the one metadata entry, JSON; the format keeps no order of several, and equal tokens shall give equal files."""
SCHEMA = 1
MAX_FILE_BYTES = 1024 * 1024
MAX_VECTORS = 32
ENCODER_KEYS = ("clip_l", "clip_g", "t5")
_PICKLES = {".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle"}


@dataclass(frozen=True)
class CountToken:
    """Vectors that stand for a number word, and where they come from.

    Attributes:
        placeholder_token: how prompts name it, "<count-7>".
        target_count: how many objects it was learned to draw.
        vectors: by text encoder ("clip_l", "clip_g", "t5"): float32 (V, D), V words long in each.
        base_model: the preset it was learned on and works with; PRESET:REPOSITORY where it was another checkpoint.
        revision: of the base model, where one was pinned.
        object_names: it was learned on, at least one.
        critic: what counted while it was learned.
        config_hash: of the settings it was learned with.
        accuracy: share of right pictures by a judge that it was not learned on, in [0, 1]; None if not measured.
        licence: of the vectors.

    Raises:
        ValueError: a placeholder that does not say the count, vectors of another shape or that are not finite, no
            object names, or an accuracy that is no share.
    """

    placeholder_token: str
    target_count: int
    vectors: dict[str, Tensor]
    base_model: str
    revision: str | None
    object_names: tuple[str, ...]
    critic: str
    config_hash: str
    accuracy: float | None
    licence: str

    def __post_init__(self) -> None:
        expected = placeholder_of(self.target_count)
        if self.placeholder_token != expected or not PLACEHOLDER.fullmatch(expected):
            raise ValueError(
                f"the placeholder of count {self.target_count} is {expected}, 1 to 9999, got {self.placeholder_token!r}"
            )
        unknown = [key for key in self.vectors if key not in ENCODER_KEYS]
        if unknown or not self.vectors:
            raise ValueError(f"vectors belong to {', '.join(ENCODER_KEYS)}; got {', '.join(self.vectors) or 'none'}")
        lengths = {len(vectors) for vectors in self.vectors.values() if vectors.ndim == 2}
        for key, vectors in self.vectors.items():
            if vectors.ndim != 2 or vectors.dtype != torch.float32 or len(lengths) != 1:
                raise ValueError(
                    f"{key} must be float32 (V, D) with the same V in every encoder, got {vectors.dtype} "
                    f"{tuple(vectors.shape)}"
                )
            if not 1 <= len(vectors) <= MAX_VECTORS:
                raise ValueError(f"{key} must hold 1 to {MAX_VECTORS} vectors, got {len(vectors)}")
            if not torch.isfinite(vectors).all():
                raise ValueError(f"{key} holds values that are not finite")
        if not self.object_names:
            raise ValueError("a token is learned on at least one kind of object; its object_names are empty")
        if self.accuracy is not None and not 0 <= self.accuracy <= 1:
            raise ValueError(f"accuracy must be a share from 0 to 1, got {self.accuracy}")

    @property
    def name(self) -> str:
        """The placeholder without its brackets: "count-7"."""
        return self.placeholder_token[1:-1]

    @property
    def encoder_dims(self) -> dict[str, int]:
        """The width of each encoder's vectors."""
        return {key: vectors.shape[1] for key, vectors in self.vectors.items()}

    @property
    def sha256(self) -> str:
        """Of the vectors, by which a recipe names them."""
        digest = hashlib.sha256()
        for key in sorted(self.vectors):
            digest.update(f"{key} {tuple(self.vectors[key].shape)}".encode())
            digest.update(_bytes_of(self.vectors[key]))
        return digest.hexdigest()


def save_token(token: CountToken, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a token whole or not at all.

    Args:
        token: at most 1 MiB of it.
        path: ends with ".safetensors".
        overwrite: replace a file of that name.

    Raises:
        TokenFileError: another suffix, a name that is taken, or a token that is too large.
        OSError: the folder is missing or cannot be written to.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise TokenFileError(f"a token file ends with {SUFFIX}, got {path.name}")
    if path.exists() and not overwrite:
        raise TokenFileError(f"{path} is there already; give another name, or say overwrite")
    write_whole(encoded(token), path)
    return path


def load_token(path: str | Path) -> CountToken:
    """Read a token; nothing in the file is ever executed.

    Raises:
        FileNotFoundError: no such file.
        TokenFileError: a pickle, a damaged file, one over 1 MiB, of an unknown schema, or one that is no count token.
    """
    path = Path(path)
    if path.suffix in _PICKLES:
        raise TokenFileError(f"{path} is named like a pickle, which can run code; only {SUFFIX} files are read")
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise TokenFileError(f"{path} is no file; give a {SUFFIX} file that holds a token")
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    return decoded(data, str(path))


def encoded(token: CountToken) -> bytes:
    """The bytes of the token's file; equal tokens give equal bytes.

    Raises:
        TokenFileError: over 1 MiB.
    """
    from safetensors.torch import save

    tensors = {key: vectors.detach().cpu().contiguous() for key, vectors in sorted(token.vectors.items())}
    if list(tensors) == ["clip_l"]:
        tensors = {token.placeholder_token: tensors["clip_l"]}
    said = _said(token)
    data = save(tensors, {METADATA_KEY: json.dumps({**said, "digest": _digest(said, token)}, sort_keys=True)})
    if len(data) > MAX_FILE_BYTES:
        raise TokenFileError(
            f"the token takes {len(data)} bytes, at most {MAX_FILE_BYTES} are written; use fewer vectors"
        )
    return data


def decoded(data: bytes, source: str) -> CountToken:
    """The token in a file's bytes.

    Args:
        data: of the file.
        source: what messages call it.

    Raises:
        TokenFileError: as `load_token`.
    """
    from safetensors import SafetensorError, deserialize

    if len(data) > MAX_FILE_BYTES:
        raise TokenFileError(f"{source} is larger than {MAX_FILE_BYTES} bytes; count tokens are small")
    if data.startswith((b"PK", b"\x80")):
        raise TokenFileError(f"{source} is a pickle, which can run code; only safetensors files are read")
    try:
        entries = dict(deserialize(data))
    except SafetensorError as error:
        raise TokenFileError(f"{source} is no safetensors file, or damaged: {_short(error)}") from error
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    try:
        said = json.loads((header.get("__metadata__") or {}).get(METADATA_KEY, "{}"))
        schema = said.get("schema")
        if schema != SCHEMA:
            raise TokenFileError(f"{source} has the schema {_short(schema)}, this version reads {SCHEMA}")
        token = _token(said, {key: _tensor(entry) for key, entry in entries.items()})
    except TokenFileError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise TokenFileError(f"{source} holds no valid count token: {_short(error)}") from error
    if said.get("digest") != _digest(_said(token), token):
        raise TokenFileError(f"{source} is damaged: its digest does not fit what it holds")
    return token


def _short(said: object) -> str:
    """What the file or a library says, escaped and short."""
    text = ascii(str(said))[1:-1]
    return text if len(text) <= 200 else f"{text[:197]}..."


def _said(token: CountToken) -> dict[str, Any]:
    """What the metadata says about the token, as JSON has it."""
    fields = {key: value for key, value in vars(token).items() if key != "vectors"}
    return {
        "schema": SCHEMA,
        **fields,
        "object_names": list(token.object_names),
        "encoder_dims": token.encoder_dims,
    }


def _token(said: Mapping[str, Any], tensors: dict[str, Tensor]) -> CountToken:
    placeholder = said["placeholder_token"]
    if {placeholder, "clip_l"} <= tensors.keys():
        raise ValueError(f"it holds both {placeholder} and clip_l, which are one encoder's")
    token = CountToken(
        placeholder_token=placeholder,
        target_count=_of_kind(said, "target_count", int),
        vectors={"clip_l" if key == placeholder else key: tensor for key, tensor in tensors.items()},
        base_model=_of_kind(said, "base_model", str),
        revision=_of_kind(said, "revision", str | None),
        object_names=tuple(str(name) for name in _of_kind(said, "object_names", list)),
        critic=_of_kind(said, "critic", str),
        config_hash=_of_kind(said, "config_hash", str),
        accuracy=_of_kind(said, "accuracy", float | int | None),
        licence=_of_kind(said, "licence", str),
    )
    if said["encoder_dims"] != token.encoder_dims:
        raise ValueError(f"it says encoder dims {said['encoder_dims']}, its vectors have {token.encoder_dims}")
    unknown = said.keys() - {*_said(token), "digest"}
    if unknown:
        raise ValueError(f"its metadata has unknown fields: {', '.join(sorted(unknown))}")
    return token


def _of_kind(said: Mapping[str, Any], name: str, kind: Any) -> Any:
    if not isinstance(said[name], kind):
        raise ValueError(f"its {name} is {said[name]!r}")
    return said[name]


def _tensor(entry: Mapping[str, Any]) -> Tensor:
    if entry["dtype"] != "F32":
        raise ValueError(f"vectors must be float32, got {entry['dtype']}")
    if not entry["data"]:
        raise ValueError("it holds an empty tensor")
    return torch.frombuffer(bytearray(entry["data"]), dtype=torch.float32).view(entry["shape"]).clone()


def _digest(said: Mapping[str, Any], token: CountToken) -> str:
    return hashlib.sha256((json.dumps(dict(said), sort_keys=True) + token.sha256).encode()).hexdigest()


def _bytes_of(vectors: Tensor) -> bytes:
    return vectors.detach().cpu().contiguous().numpy().astype("<f4").tobytes()
