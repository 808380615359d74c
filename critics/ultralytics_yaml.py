"""Check the description of an Ultralytics model before Ultralytics builds it.

Ultralytics evaluates its `activation`, looks modules up by any name, and passes any arguments on: a description could
run code or download weights. What the schema accepts is what Ultralytics' own detectors use, which is licensed under
AGPL-3.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml
from msgspec import Meta

from countgen.critics.weights import one_line
from countgen.files.printable import printable
from countgen.files.reading import read_bytes

MAX_BYTES = 1024 * 1024
MAX_NUMBER = 4096
"""Largest number of channels, and of every other argument of a layer."""
MAX_CLASSES = 10_000
MAX_NAME_LENGTH = 200

HEADS = ("Detect", "v10Detect", "WorldDetect", "YOLOEDetect", "RTDETRDecoder")
MODULES = (
    *("nn.BatchNorm2d", "nn.ConvTranspose2d", "nn.Identity", "nn.MaxPool2d", "nn.Upsample", "nn.ZeroPad2d"),
    *("A2C2f", "AConv", "ADown", "AIFI", "Bottleneck", "BottleneckCSP", "C1", "C2", "C2PSA", "C2f", "C2fAttn"),
    *("C2fCIB", "C2fPSA", "C3", "C3Ghost", "C3TR", "C3k2", "C3x", "CBFuse", "CBLinear", "Concat", "Conv"),
    *("ConvTranspose", "DWConv", "DWConvTranspose2d", "ELAN1", "Focus", "GhostBottleneck", "GhostConv", "HGBlock"),
    *("HGStem", "ImagePoolingAttn", "Index", "PSA", "RepC3", "RepConv", "RepNCSPELAN4", "ResNetLayer", "SCDown"),
    *("SPP", "SPPELAN", "SPPF", "Silence", *HEADS),
)

Factor = Annotated[float, Meta(gt=0, le=4)]
ScaleName = Annotated[str, Meta(max_length=8)]
ClassName = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_LENGTH)] | int | float
Origin = Annotated[int, Meta(ge=-200, le=400)]
Number = Annotated[int, Meta(ge=-1, le=MAX_NUMBER)] | Annotated[float, Meta(ge=-1, le=MAX_NUMBER)]
Word = Literal["nc", "None", "True", "False", "nearest", "bilinear"]
Argument = Number | bool | Word | None | Annotated[list[Number | bool | Word | None], Meta(max_length=16)]
Layer = tuple[
    Origin | Annotated[list[Origin], Meta(min_length=1, max_length=200)],
    Annotated[int, Meta(ge=1, le=100)],
    Literal[MODULES],  # type: ignore[valid-type]
    Annotated[list[Argument], Meta(max_length=16)],
]
"""One row: where its input comes from, repeats, module, arguments."""
Layers = Annotated[list[Layer], Meta(min_length=1, max_length=200)]


class Description(msgspec.Struct, omit_defaults=True):
    """The keys of a description that build a detector; others are left out."""

    names: Annotated[list[ClassName], Meta(min_length=1, max_length=MAX_CLASSES)]
    backbone: Layers
    head: Layers
    nc: Annotated[int, Meta(ge=1, le=MAX_CLASSES)] | None = None
    reg_max: Annotated[int, Meta(ge=1, le=64)] | None = None
    end2end: bool | None = None
    inplace: bool | None = None
    depth_multiple: Factor | None = None
    width_multiple: Factor | None = None
    scale: ScaleName | None = None
    scales: (
        Annotated[
            dict[ScaleName, tuple[Factor, Factor, Annotated[int, Meta(ge=1, le=MAX_NUMBER)]]],
            Meta(min_length=1, max_length=16),
        ]
        | None
    ) = None
    activation: (
        Annotated[
            str,
            Meta(
                pattern=r"^(torch\.)?nn\.(CELU|ELU|GELU|Hardswish|Identity|LeakyReLU|Mish|ReLU6?|SELU|SiLU|Softplus|Tanh)"
                r"\(([0-9]{1,3}(\.[0-9]{1,6})?)?\)\Z"
            ),
        ]
        | None
    ) = None


class _Loader(yaml.SafeLoader):  # type: ignore[misc, unused-ignore]
    """Reads plain yaml, without aliases and long numbers: with them a short file could ask for endless work."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(
                None, None, "an alias (*) is not read; write out what it stands for", None
            )
        return super().compose_node(parent, index)

    def construct_scalar(self, node: Any) -> Any:
        if node.tag != "tag:yaml.org,2002:str" and len(node.value) > MAX_NAME_LENGTH:
            raise yaml.constructor.ConstructorError(None, None, f"a number has {len(node.value)} characters", None)
        return super().construct_scalar(node)


def read(path: Path) -> dict[str, Any]:
    """Return the description in a file, checked.

    Raises:
        ValueError: it is not yaml, too large, or holds what no detector needs; the message says where.
    """
    try:
        described = yaml.load(read_bytes(path, MAX_BYTES), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{printable(path)} is not readable yaml: {one_line(error)}") from error
    return checked(described, printable(path))


def checked(described: Any, source: str) -> dict[str, Any]:
    """Return the keys of a description that build a detector, checked; other keys are left out.

    Args:
        described: from a yaml file or a checkpoint.
        source: its name in messages.

    Raises:
        ValueError: it holds a value that no detector needs.
    """
    if not isinstance(described, Mapping) or not (names := described.get("names")):
        raise ValueError(f"{source} does not name its classes; a mapping with backbone, head and names is expected")
    if isinstance(names, Mapping):
        if set(names) != set(range(len(names))):
            raise ValueError(f"{source} must number its classes from 0 on without a gap")
        names = [names[index] for index in range(len(names))]
    fields = {name: described.get(name) for name in Description.__struct_fields__}
    try:
        checked = msgspec.convert(fields | {"names": names}, Description)
    except (msgspec.ValidationError, RecursionError) as error:
        raise ValueError(
            f"{source}: {printable(error, 300)}; detectors do not need more than critics/ultralytics_yaml.py accepts"
        ) from error
    kept: dict[str, Any] = msgspec.to_builtins(checked)
    kept["names"] = tuple(map(str, kept["names"]))
    if "scales" in kept:
        kept.setdefault("scale", next(iter(kept["scales"])))  # as Ultralytics chooses, with a warning
        if kept["scale"] not in kept["scales"]:
            raise ValueError(f"{source}: scale is {kept['scale']!r}; it must be one of {', '.join(kept['scales'])}")
    layers = kept["backbone"] + kept["head"]
    for _, _, module, arguments in layers:
        if module == "nn.Upsample" and any(isinstance(value, int | float) and value > 4 for value in arguments[1:2]):
            raise ValueError(f"{source}: nn.Upsample enlarges {arguments[1]} times; at most 4 are built")
    if (head := layers[-1][2]) not in HEADS:
        raise ValueError(f"{source} ends in {head}, which is not a detector's head; accepted are {', '.join(HEADS)}")
    return kept
