"""A count token, and the safetensors file that other programs read as a textual inversion.

Tensor keys are those of diffusers, A1111/Forge and ComfyUI: the placeholder for a model with one CLIP encoder,
otherwise "clip_l", "clip_g" and "t5". All other fields of the token are in the file's metadata.

A token with a number direction has other keys, see `countgen.tokens.direction`.
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

from countgen.errors import TokenFileError
from countgen.learning.tensor_file import TensorFile, bytes_of, fact
from countgen.prompts.placeholders import PLACEHOLDER, placeholder_of
from countgen.tokens.direction import NumberDirection, from_file, to_file

SCHEMA = 1
DIRECTION_SCHEMA = 2
"""The schema of a token with a number direction."""
MAX_FILE_BYTES = 1024 * 1024
MAX_VECTORS = 32
ENCODER_KEYS = ("clip_l", "clip_g", "t5")
METADATA_KEY = "countgen"
FILE = TensorFile(
    key=METADATA_KEY,
    what="count token",
    schemas=(SCHEMA, DIRECTION_SCHEMA),
    max_bytes=MAX_FILE_BYTES,
    smaller="use fewer vectors",
    error=TokenFileError,
)


@dataclass(frozen=True)
class CountToken:
    """Trained vectors that stand for a number word, and how they were trained.

    Attributes:
        placeholder_token: name of the token in prompts, "<count-7>".
        target_count: number of objects that the token stands for.
        vectors: float32 (V, D) by text encoder ("clip_l", "clip_g", "t5"), with the same V in each; those of a token
            with a direction are the direction's start number.
        base_model: preset that the token was trained on; PRESET:REPOSITORY for another checkpoint.
        revision: pinned revision of the base model, or None.
        object_names: names of the objects that the token was trained on, at least one.
        critic: names of the critics that the token was trained with.
        config_hash: hash of the training settings.
        accuracy: fraction of right counts by a judge that was not used in training, in [0, 1]; None if not measured.
        licence: licence of the vectors.
        direction: move of the prompt embeddings, for a count beyond the model's number words; None for a token of
            input vectors alone.

    Raises:
        ValueError: the placeholder does not match the count, vectors have another shape or are not finite, object
            names are missing, the accuracy is outside [0, 1], or the direction starts from a number that is not below
            the count.
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
    direction: NumberDirection | None = None

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
            raise ValueError("a token is trained on at least one object; its object_names are empty")
        if self.accuracy is not None and not 0 <= self.accuracy <= 1:
            raise ValueError(f"accuracy must be a fraction from 0 to 1, got {self.accuracy}")
        if self.direction is not None and self.direction.start_number >= self.target_count:
            raise ValueError(
                f"a number direction leads to counts above its start, got {self.target_count} from "
                f"{self.direction.start_number}"
            )

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
        """The SHA-256 of the vectors and of the direction, which recipes record."""
        digest, tensors = hashlib.sha256(), self.vectors if self.direction is None else _tensors(self)
        for key in sorted(tensors):
            digest.update(f"{key} {tuple(tensors[key].shape)}".encode())
            digest.update(bytes_of(tensors[key]))
        return digest.hexdigest()


def save_token(token: CountToken, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a token's file atomically and return its path.

    Args:
        token: token of at most 1 MiB.
        path: path that ends with ".safetensors".
        overwrite: replace an existing file.

    Raises:
        TokenFileError: the suffix is another one, the file exists, or the token is too large.
        OSError: the folder is missing or cannot be written to.
    """
    return FILE.save(encoded(token), path, overwrite=overwrite)


def load_token(path: str | Path) -> CountToken:
    """Read a token's file; nothing in the file is ever executed.

    Raises:
        FileNotFoundError: there is no such file.
        TokenFileError: the file is a pickle, damaged, over 1 MiB, of an unknown schema, or not a count token.
    """
    return decoded(FILE.read(path), str(path))


def encoded(token: CountToken) -> bytes:
    """Return the bytes of a token's file; equal tokens give equal bytes.

    Raises:
        TokenFileError: the file would be over 1 MiB.
    """
    metadata = _metadata(token)
    return FILE.packed(_tensors(token), {**metadata, "digest": _digest(metadata, token)})


def decoded(data: bytes, source: str) -> CountToken:
    """Return the token in the bytes of a file.

    Args:
        data: content of the file.
        source: name of the file in error messages.

    Raises:
        TokenFileError: as for `load_token`.
    """
    return FILE.opened(data, source, _token)


def _metadata(token: CountToken) -> dict[str, Any]:
    """Return the metadata of a token as JSON values, without the digest."""
    fields = {key: value for key, value in vars(token).items() if key not in ("vectors", "direction")}
    start = {} if token.direction is None else {"start_number": token.direction.start_number}
    return {
        "schema": DIRECTION_SCHEMA if start else SCHEMA,
        **fields,
        **start,
        "object_names": list(token.object_names),
        "encoder_dims": token.encoder_dims,
    }


def _tensors(token: CountToken) -> dict[str, Tensor]:
    """Return the tensors of a token's file by their key."""
    tensors = dict(sorted(token.vectors.items()))
    if token.direction is not None:
        tensors = to_file(token.direction, tensors)
    elif list(tensors) == ["clip_l"]:
        tensors = {token.placeholder_token: tensors["clip_l"]}
    return tensors


def _token(metadata: Mapping[str, Any], tensors: dict[str, Tensor]) -> CountToken:
    placeholder, direction = metadata["placeholder_token"], None
    if metadata["schema"] == DIRECTION_SCHEMA:
        direction, tensors = from_file(fact(metadata, "start_number", int), tensors)
    if {placeholder, "clip_l"} <= tensors.keys():
        raise ValueError(f"it holds both {placeholder} and clip_l, which belong to the same encoder")
    token = CountToken(
        placeholder_token=placeholder,
        target_count=fact(metadata, "target_count", int),
        vectors={"clip_l" if key == placeholder else key: tensor for key, tensor in tensors.items()},
        base_model=fact(metadata, "base_model", str),
        revision=fact(metadata, "revision", str | None),
        object_names=tuple(str(name) for name in fact(metadata, "object_names", list)),
        critic=fact(metadata, "critic", str),
        config_hash=fact(metadata, "config_hash", str),
        accuracy=fact(metadata, "accuracy", float | int | None),
        licence=fact(metadata, "licence", str),
        direction=direction,
    )
    if metadata["encoder_dims"] != token.encoder_dims:
        raise ValueError(f"its metadata has encoder dims {metadata['encoder_dims']}, its vectors {token.encoder_dims}")
    unknown = metadata.keys() - {*_metadata(token), "digest"}
    if unknown:
        raise ValueError(f"its metadata has unknown fields: {', '.join(sorted(unknown))}")
    if metadata.get("digest") != _digest(_metadata(token), token):
        raise ValueError("it is damaged, its digest does not match its content")
    return token


def _digest(metadata: Mapping[str, Any], token: CountToken) -> str:
    return hashlib.sha256((json.dumps(dict(metadata), sort_keys=True) + token.sha256).encode()).hexdigest()
