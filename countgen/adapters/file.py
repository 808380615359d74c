"""The safetensors file of a noise adapter: the network's weights, and everything else in the metadata."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from countgen.adapters.adapter import NoiseAdapter
from countgen.adapters.network import ARCHITECTURE, NetworkConfig
from countgen.errors import AdapterFileError
from countgen.learning.tensor_file import TensorFile, bytes_of, fact

__all__ = ["FILE", "decoded", "encoded", "load_adapter", "packed", "save_adapter"]

SCHEMA = 1
FILE = TensorFile(
    key="countgen-adapter",
    schemas=(SCHEMA,),
    max_bytes=16 * 1024 * 1024,
    smaller="use fewer channels",
    dtype=torch.float16,
    error=AdapterFileError,
)


def save_adapter(adapter: NoiseAdapter, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write an adapter's file atomically and return its path.

    Args:
        adapter: adapter of at most 16 MiB.
        path: path that ends with ".safetensors".
        overwrite: replace an existing file.

    Raises:
        AdapterFileError: the suffix is another one, the file exists, or the adapter is too large.
        OSError: the folder is missing or cannot be written to.
    """
    return FILE.save(encoded(adapter), path, overwrite=overwrite)


def load_adapter(path: str | Path) -> NoiseAdapter:
    """Read an adapter's file; nothing in the file is ever executed.

    Raises:
        FileNotFoundError: there is no such file.
        AdapterFileError: the file is a pickle, damaged, over 16 MiB, of an unknown schema, or no noise adapter.
    """
    return decoded(FILE.read(path), str(path))


def encoded(adapter: NoiseAdapter) -> bytes:
    """Return the bytes of an adapter's file; equal adapters give equal bytes.

    Raises:
        AdapterFileError: the file would be over 16 MiB.
    """
    return packed(adapter.weights, facts_of(adapter))


def packed(weights: Mapping[str, Tensor], facts: Mapping[str, Any]) -> bytes:
    """Return the bytes of a file with these facts, which are not checked, and a digest of weights and facts."""
    facts = {"schema": SCHEMA, **facts}
    return FILE.packed(weights, {**facts, "digest": _digest(facts, weights)})


def decoded(data: bytes, source: str) -> NoiseAdapter:
    """Return the adapter in the bytes of a file; `source` names it in messages.

    Raises:
        AdapterFileError: as for `load_adapter`.
    """
    return FILE.opened(data, source, _adapter)


def facts_of(adapter: NoiseAdapter) -> dict[str, Any]:
    """Return everything but the weights as JSON values."""
    names = [field.name for field in fields(NoiseAdapter) if field.name != "weights"]
    facts = {name: getattr(adapter, name) for name in names}
    config = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(adapter.config).items()}
    return {**facts, "architecture": ARCHITECTURE, "config": config, "object_names": list(adapter.object_names)}


def _adapter(facts: dict[str, Any], weights: dict[str, Tensor]) -> NoiseAdapter:
    if facts.pop("digest") != _digest(facts, weights):
        raise ValueError("it is damaged, its digest does not match its content")
    if facts["architecture"] != ARCHITECTURE:
        raise ValueError(f"its network is {facts['architecture']!r}, this version has {ARCHITECTURE}")
    config = fact(facts, "config", dict)
    adapter = NoiseAdapter(
        config=NetworkConfig(
            latent_shape=_numbers(config, "latent_shape"),
            counts=_numbers(config, "counts"),
            prompt_dim=fact(config, "prompt_dim", int),
            sees_sample=fact(config, "sees_sample", bool),
            channels=fact(config, "channels", int),
        ),
        weights=weights,
        base_model=fact(facts, "base_model", str),
        revision=fact(facts, "revision", str | None),
        object_names=tuple(str(name) for name in fact(facts, "object_names", list)),
        critic=fact(facts, "critic", str),
        config_hash=fact(facts, "config_hash", str),
        accuracy=fact(facts, "accuracy", float | int | None),
        plain_accuracy=fact(facts, "plain_accuracy", float | int | None),
        licence=fact(facts, "licence", str),
    )
    known = facts_of(adapter)
    if unknown := (facts.keys() - {*known, "schema"}) | (config.keys() - known["config"].keys()):
        raise ValueError(f"its metadata has unknown fields: {', '.join(sorted(unknown))}")
    return adapter


def _numbers(config: dict[str, Any], name: str) -> Any:
    """Return a list of whole numbers as a tuple, whose length the config checks."""
    values = fact(config, name, list)
    if not all(type(value) is int for value in values):
        raise ValueError(f"its {name} is {values!r}")
    return tuple(values)


def _digest(facts: Mapping[str, Any], weights: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode())
    for name in sorted(weights):
        digest.update(f"{name} {tuple(weights[name].shape)}".encode())
        digest.update(bytes_of(weights[name]))
    return digest.hexdigest()
