"""Check the folder of a model that somebody else wrote, before diffusers or transformers reads it.

Both libraries follow what a folder's JSON files say: to a pickle that an index names, to a repository that holds
attention kernels or the base model of an adapter, to a loop over as many layers as are written there. Custom code
(`auto_map`) needs no check here: every loader passes `trust_remote_code=False`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from countgen.files.printable import printable
from countgen.files.reading import read_bytes

MAX_CONFIG_BYTES = 4 * 1024 * 1024
"""Largest size of a configuration or an index."""
MAX_OTHER_JSON_BYTES = 64 * 1024 * 1024
"""Largest size of another JSON file, such as a tokenizer."""
MAX_MODULES = 2_000
"""Largest sum of the numbers of layers, blocks, stages and the like in one file, and length of a list in it."""
MAX_TIMESTEPS = 10_000
MAX_NUMBER = 2**26
"""Largest other whole number; the largest in published models is a budget of 25 million pixels for videos."""
ATTENTION = ("eager", "sdpa", "flex_attention")
DTYPES = ("float32", "float16", "bfloat16", "float64", "auto")
LIBRARIES = ("diffusers", "transformers", "stable_diffusion")
"""Libraries of components; diffusers calls its own folder of the safety checker "stable_diffusion"."""
MAX_RANK = 4096

_LISTS_OF_LORA = ("target_modules", "exclude_modules", "modules_to_save", "layers_pattern")
_MAPPINGS_OF_LORA = ("rank_pattern", "alpha_pattern", "runtime_config")
_COUNTS_MODULES = re.compile(r"layer|depth|block|stage|level|repeat|codebook|quantizer|flow")
_IS_A_SIZE = re.compile(r"size|dim|channel|width|head|index|token_id")
_UNBOUNDED = re.compile(r"theta|base|seed|model_max_length")
_NAMES_OF_CLASSES = ("id2label", "label2id")
_SAFETENSORS = re.compile(r"[\w.-]+\.safetensors")


def check_model_folder(folder: Path) -> None:
    """Raise unless a model or pipeline can be read from a folder without running code, pickles or endless loops.

    Args:
        folder: as transformers writes it for a model, or diffusers for one component or for a pipeline, whose
            components are then checked as well.

    Raises:
        ValueError: names the file, the field, its value and what is accepted.
    """
    components = [path for path in folder.iterdir() if path.is_dir()] if (folder / "model_index.json").exists() else []
    for path in sorted(file for part in (folder, *components) for file in part.iterdir() if not file.is_dir()):
        if not path.is_file():
            raise ValueError(
                f"{printable(path)} is a pipe, a device or a broken link; a model's folder holds regular files only"
            )
        if path.suffix == ".safetensors":
            check_safetensors(path)
        if path.suffix != ".json":
            continue
        if path.name == "adapter_config.json":
            raise ValueError(
                f"{printable(path)} makes this an adapter of another model; give a folder with a complete model"
            )
        if ".safetensors.index." in path.name:
            _check_index(path)
        elif path.name.endswith("config.json") or path.name == "model_index.json":
            _check_config(path)
        elif path.stat().st_size > MAX_OTHER_JSON_BYTES:
            raise ValueError(f"{printable(path)} is larger than {MAX_OTHER_JSON_BYTES} bytes, the most that is read")


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a configuration.

    Raises:
        ValueError: the file is too large, or holds something else.
        OSError: the file is missing or cannot be read.
    """
    try:
        content = json.loads(read_bytes(path, MAX_CONFIG_BYTES))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{printable(path)} is not valid JSON: {printable(error, 200)}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{printable(path)} holds a {type(content).__name__}; a JSON object is expected")
    return content


def check_safetensors(path: Path) -> None:
    """Raise a ValueError if a file does not begin as a safetensors file does."""
    with path.open("rb") as file:
        start = file.read(9)
    length = int.from_bytes(start[:8], "little")
    if len(start) < 9 or start[8:] != b"{" or length > path.stat().st_size - 8:
        raise ValueError(f"{printable(path)} is not a safetensors file, or it is damaged; pickles are not read")


def _check_index(path: Path) -> None:
    shards = read_json(path).get("weight_map")
    for name in shards.values() if isinstance(shards, dict) else [shards]:
        if not isinstance(name, str) or not _SAFETENSORS.fullmatch(name):
            raise ValueError(
                f"{printable(path)}: weight_map names {_shown(name)}; only .safetensors files beside it are read"
            )


def _check_config(path: Path) -> None:
    modules = 0
    content = read_json(path)
    if path.name == "model_index.json":
        _check_components(path, content)
    for field, value in _fields(content):
        accepted = None
        if field in ("_attn_implementation", "attn_implementation", "_attn_implementation_internal"):
            accepted = None if value in (None, *ATTENTION) else ", ".join(ATTENTION)
        elif field in ("quantization_config", "compression_config"):
            accepted = None if value is None else "null: weights in float16, bfloat16 or float32"
        elif field in ("dtype", "torch_dtype"):
            accepted = None if value in (None, *DTYPES) or isinstance(value, dict) else ", ".join(DTYPES)
        elif field == "trained_betas":
            accepted = None if value is None or isinstance(value, list | int | float) else "null or numbers"
        elif field == "transformers_weights":
            is_beside = value is None or _SAFETENSORS.fullmatch(str(value).removesuffix(".index.json"))
            accepted = None if is_beside else "a .safetensors file beside it, or the index of several"
        elif isinstance(value, list) and len(value) > MAX_MODULES:
            accepted = f"lists of at most {MAX_MODULES} entries"
        elif isinstance(value, int) and not isinstance(value, bool):
            if _COUNTS_MODULES.search(field) and not _IS_A_SIZE.search(field):
                modules += max(value, 0)
                accepted = None if modules <= MAX_MODULES else f"in all at most {MAX_MODULES} layers, blocks and stages"
            elif "timesteps" in field:
                accepted = None if value <= MAX_TIMESTEPS else f"at most {MAX_TIMESTEPS}"
            elif not _UNBOUNDED.search(field):
                accepted = None if abs(value) <= MAX_NUMBER else f"whole numbers up to {MAX_NUMBER}"
        if accepted:
            raise ValueError(f"{printable(path)}: {printable(field, 60)} is {_shown(value)}; accepted: {accepted}")


def _check_components(path: Path, index: dict[str, Any]) -> None:
    """Raise if a component is not a class of the two libraries: diffusers imports whatever an index names."""
    for name, value in index.items():
        if name.startswith("_") or not isinstance(value, list) or value == [None, None]:
            continue
        library, class_name = map(str, value) if len(value) == 2 else ("", "")
        concrete = class_name[:1].isupper() and class_name.isidentifier()
        if library not in LIBRARIES or not concrete or (library == "transformers" and class_name.startswith("Auto")):
            raise ValueError(
                f"{printable(path)}: the component {printable(name, 60)} is {_shown(value)}; accepted: a class of "
                "diffusers or transformers, but none of transformers' Auto classes"
            )


def check_lora(path: Path) -> None:
    """Raise unless an adapter is a safetensors file whose metadata configure a plain LoRA.

    The library that reads it imports what other settings name.

    Raises:
        ValueError: names the file, the field and its value.
        OSError: the file is missing or cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    check_safetensors(path)
    try:
        with safe_open(path, "pt") as file:
            metadata = json.loads((file.metadata() or {}).get("lora_adapter_metadata", "{}"))
    except (SafetensorError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{printable(path)} is damaged, or its lora_adapter_metadata is not JSON: {printable(error, 200)}"
        ) from error
    if not isinstance(metadata, dict):
        raise ValueError(f"{printable(path)}: lora_adapter_metadata is {_shown(metadata)}; a JSON object is expected")
    for name, value in metadata.items():
        field, accepted = name.rpartition(".")[2], None
        if field in ("r", "lora_alpha"):
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            accepted = None if is_number and 0 < value <= MAX_RANK else f"a number above 0, up to {MAX_RANK}"
        elif field in _LISTS_OF_LORA:
            accepted = None if value is None or isinstance(value, list) else "a list of names"
        elif isinstance(value, dict) and value and field not in _MAPPINGS_OF_LORA:
            accepted = "nothing, as for a plain LoRA"
        if accepted:
            raise ValueError(f"{printable(path)}: {_shown(name)} is {_shown(value)}; accepted: {accepted}")


def _fields(content: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield every field of nested objects with its value; a list of numbers yields its field once for each."""
    waiting: list[tuple[str, Any]] = list(content.items())
    for field, value in waiting:
        yield field, value
        if isinstance(value, dict) and field not in _NAMES_OF_CLASSES:
            waiting += value.items()
        elif isinstance(value, list):
            waiting += ((field, entry) for entry in value)


def _shown(value: Any) -> str:
    return printable(repr(value), 60) if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"
