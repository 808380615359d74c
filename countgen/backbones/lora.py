"""LoRA adapters in a pipeline that is loaded by name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from huggingface_hub import list_repo_files

from countgen.backbones.model_files import digest, public_name, readable
from countgen.files.hub import check_answers, is_hub_id, resolve
from countgen.files.model_folder import check_lora

_USUAL_FILE = "pytorch_lora_weights.safetensors"


@dataclass(frozen=True)
class Lora:
    """An adapter and how much of it is added.

    Attributes:
        source: a `.safetensors` file, a folder, or OWNER/NAME on the hub.
        weight: 1 for as it was trained.

    Raises:
        ValueError: it is none of these, the weight is not finite, or peft, with which diffusers reads adapters, is
            not installed.
    """

    source: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not Path(self.source).exists() and not is_hub_id(self.source):
            raise ValueError(
                f"no LoRA {self.source!r}: no such file or folder, and no OWNER/NAME on the hub; a weight follows a "
                "colon, as in style.safetensors:0.8"
            )
        if not math.isfinite(self.weight):
            raise ValueError(f"the weight of a LoRA must be a number, got {self.weight}")
        if find_spec("peft") is None:
            raise ValueError('a LoRA needs peft, which is not installed: pip install "countgen[lora]"')

    @property
    def recorded(self) -> dict[str, Any]:
        """What a recipe says of it: its name without the user's folders, a digest of a local file, the weight."""
        path = Path(self.source)
        named = {"name": public_name(self.source), "weight": self.weight}
        return {**named, "sha256": digest(path)[:16]} if path.exists() else named


def parse(text: str) -> Lora:
    """Read FILE|ID[:WEIGHT].

    Raises:
        ValueError: as `Lora`.
    """
    source, colon, weight = text.rpartition(":")
    if not colon or Path(text).exists():
        return Lora(text)
    try:
        number = float(weight)
    except ValueError:
        raise ValueError(f"the weight of a LoRA must be a number, got {weight!r}") from None
    return Lora(source, number)


def add_loras(pipeline: Any, loras: Sequence[Lora], *, download: bool = True) -> None:
    """Load adapters into a pipeline, as diffusers does.

    Args:
        pipeline: of diffusers.
        loras: added in this order.
        download: read adapters of the hub.

    Raises:
        ValueError: an adapter cannot be read or is of another model.
        OSError: an adapter is on the hub, and nothing is downloaded, or the hub does not give it.
    """
    names = [f"lora_{number}" for number in range(len(loras))]
    for name, lora in zip(names, loras, strict=True):
        file = _file_of(lora.source, download)
        check_lora(file)
        with readable(f"the LoRA {lora.source} cannot be read into a {type(pipeline).__name__}"):
            pipeline.load_lora_weights(file.parent, weight_name=file.name, adapter_name=name, use_safetensors=True)
    if loras:
        pipeline.set_adapters(names, [lora.weight for lora in loras])


def _file_of(source: str, download: bool) -> Path:
    """Return the file of an adapter, from its folder or repository the one that diffusers writes, or the only one."""
    path = Path(source)
    if path.is_file():
        return path
    if path.is_dir():
        names = sorted(file.name for file in path.glob("*.safetensors"))
    elif not download:
        raise OSError(f"the LoRA {source} is on the hub, from which nothing may be read here")
    else:
        check_answers(f"the LoRA {source}", source)
        names = [name for name in list_repo_files(source) if name.endswith(".safetensors")]
    if _USUAL_FILE in names:
        names = [_USUAL_FILE]
    if len(names) != 1:
        raise ValueError(
            f"the LoRA {source} has {len(names)} .safetensors files; give the file itself"
            f"{', such as ' * bool(names)}{', '.join(names[:3])}"
        )
    return path / names[0] if path.is_dir() else resolve(f"{source}/{names[0]}", [])
