"""A count token, and the safetensors file that other programs read as a textual inversion.

Tensor keys are those of diffusers, A1111/Forge and ComfyUI: the placeholder for a model with one CLIP encoder,
otherwise "clip_l", "clip_g" and "t5". All other fields of the token are in the file's metadata.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from msgspec import Meta
from msgspec.structs import asdict
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from countgen.errors import TokenFileError
from countgen.files import schema
from countgen.files.printable import printable
from countgen.files.reading import read_bytes
from countgen.files.schema import Document, Name
from countgen.files.writing import write_atomically
from countgen.prompts.prompt import PLACEHOLDER, placeholder_of

SUFFIX = ".safetensors"
MAX_FILE_BYTES = 1024 * 1024
MAX_VECTORS = 32
ENCODER_KEYS = ("clip_l", "clip_g", "t5")
METADATA_KEY = "countgen"
"""The entry of the metadata with all fields: safetensors does not keep the order of several entries, and equal tokens
give equal bytes."""


class _Metadata(Document, frozen=True):
    """The fields of a token besides its tensors."""

    schema: Literal[1]
    placeholder_token: Name
    target_count: int
    base_model: Name
    revision: str | None
    object_names: tuple[Name, ...]
    critic: str
    config_hash: str
    accuracy: int | Annotated[float, Meta(ge=0, le=1)] | None
    licence: str
    encoder_dims: dict[str, int]
    digest: str


@dataclass(frozen=True)
class CountToken:
    """Trained vectors that stand for a number word, and how they were trained.

    Attributes:
        placeholder_token: name of the token in prompts, "<count-7>".
        target_count: number of objects that the token stands for.
        vectors: float32 (V, D) by text encoder ("clip_l", "clip_g", "t5"), with the same V in each.
        base_model: preset that the token was trained on; PRESET:REPOSITORY for another checkpoint.
        revision: pinned revision of the base model, or None.
        object_names: names of the objects that the token was trained on, at least one.
        critic: names of the critics that the token was trained with.
        config_hash: hash of the training settings.
        accuracy: fraction of right counts by a judge that was not used in training, in [0, 1]; None if not measured.
        licence: licence of the vectors.

    Raises:
        ValueError: a field outside its range, or fields that contradict each other.
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
        lengths = {vectors.shape[:1] for vectors in self.vectors.values()}
        for key, vectors in self.vectors.items():
            valid = vectors.ndim == 2 and vectors.dtype == torch.float32 and 1 <= len(vectors) <= MAX_VECTORS
            if not valid or len(lengths) != 1 or not torch.isfinite(vectors).all():
                raise ValueError(
                    f"{key} must be float32 (V, D) and finite, with the same V from 1 to {MAX_VECTORS} in every "
                    f"encoder, got {vectors.dtype} {tuple(vectors.shape)}"
                )
        if not self.object_names:
            raise ValueError("a token is trained on at least one object; its object_names are empty")
        if self.accuracy is not None and not 0 <= self.accuracy <= 1:
            raise ValueError(f"accuracy must be a fraction from 0 to 1, got {self.accuracy}")

    @property
    def name(self) -> str:
        """The placeholder without its brackets: "count-7"."""
        return self.placeholder_token[1:-1]

    @property
    def encoder_dims(self) -> dict[str, int]:
        """The dimension of the vectors by text encoder."""
        return {key: vectors.shape[1] for key, vectors in self.vectors.items()}

    @property
    def sha256(self) -> str:
        """The SHA-256 of the vectors, which recipes record."""
        digest = hashlib.sha256()
        for key, vectors in sorted(self.vectors.items()):
            digest.update(f"{key} {tuple(vectors.shape)}".encode())
            # Little-endian on every machine.
            digest.update(vectors.detach().cpu().contiguous().numpy().astype("<f4").tobytes())
        return digest.hexdigest()


def save_token(token: CountToken, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a token's file atomically and return its path, which ends with ".safetensors".

    Raises:
        TokenFileError: the suffix is another one, the file exists and `overwrite` is False, or it would be over 1 MiB.
        OSError: the folder is missing or cannot be written to.
    """
    path, data = Path(path), encoded(token)
    if path.suffix != SUFFIX:
        raise TokenFileError(f"a file of a count token ends with {SUFFIX}, got {printable(path.name)}")
    try:
        write_atomically(data, path, overwrite=overwrite)
    except FileExistsError as error:
        raise TokenFileError(f"{printable(path)} exists already; give another name, or overwrite=True") from error
    return path


def load_token(path: str | Path) -> CountToken:
    """Read a token's file; nothing in the file is ever executed.

    Raises:
        FileNotFoundError: there is no such file.
        TokenFileError: the file is a pickle, damaged, over 1 MiB, of an unknown schema, or not a count token.
    """
    try:
        data = read_bytes(path, MAX_FILE_BYTES)
    except ValueError as error:
        raise TokenFileError(f"{error}; give a {SUFFIX} file that holds a count token") from error
    return decoded(data, printable(path))


def encoded(token: CountToken) -> bytes:
    """Return the bytes of a token's file; equal tokens give equal bytes.

    Raises:
        TokenFileError: the file would be over 1 MiB.
    """
    metadata, tensors = _metadata(token), _tensors(token)
    text = json.dumps({**metadata, "digest": _digest(metadata, token)}, sort_keys=True)
    # Copies, because safetensors does not accept tensors that share memory.
    ordered = {name: tensors[name].detach().cpu().contiguous().clone() for name in sorted(tensors)}
    data = save(ordered, {METADATA_KEY: text})
    if len(data) > MAX_FILE_BYTES:
        raise TokenFileError(
            f"the count token takes {len(data)} bytes, at most {MAX_FILE_BYTES} are allowed; use fewer vectors"
        )
    return data


def decoded(data: bytes, source: str) -> CountToken:
    """Return the token in the content of a file; `source` names the file in errors, which are those of `load_token`."""
    if data.startswith((b"PK", b"\x80")):
        raise TokenFileError(f"{source} is a pickle, which can run code; only safetensors files are read")
    try:
        tensors = load(data)
        header = schema.decoded(data[8 : 8 + int.from_bytes(data[:8], "little")], dict[str, Any])
        text = (header.get("__metadata__") or {}).get(METADATA_KEY)
        if text is None:
            raise ValueError(f"its metadata has no entry {METADATA_KEY!r}")
        return _token(schema.decoded(text, _Metadata), tensors)
    except (SafetensorError, KeyError, ValueError) as error:
        raise TokenFileError(f"{source} holds no valid count token: {printable(error, 200)}") from error


def _metadata(token: CountToken) -> dict[str, Any]:
    """Return the metadata of a token as JSON values, without the digest."""
    fields = {key: value for key, value in vars(token).items() if key != "vectors"}
    return {"schema": 1, **fields, "encoder_dims": token.encoder_dims}


def _tensors(token: CountToken) -> dict[str, Tensor]:
    """Return the tensors of a token's file by their key."""
    if list(token.vectors) == ["clip_l"]:
        return {token.placeholder_token: token.vectors["clip_l"]}
    return dict(sorted(token.vectors.items()))


def _token(metadata: _Metadata, tensors: dict[str, Tensor]) -> CountToken:
    placeholder = metadata.placeholder_token
    vectors = {"clip_l" if key == placeholder else key: tensor for key, tensor in tensors.items()}
    declared = asdict(metadata)
    fields = {name: declared[name] for name in CountToken.__dataclass_fields__ if name in declared}
    token = CountToken(**fields, vectors=vectors)
    if unknown := tensors.keys() - _tensors(token).keys():
        raise ValueError(f"it holds tensors that do not belong to it: {', '.join(sorted(unknown))}")
    if metadata.digest != _digest(_metadata(token), token):
        raise ValueError("it is damaged, its digest does not match its content")
    return token


def _digest(metadata: dict[str, Any], token: CountToken) -> str:
    return hashlib.sha256((json.dumps(metadata, sort_keys=True) + token.sha256).encode()).hexdigest()
