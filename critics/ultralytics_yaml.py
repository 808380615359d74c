"""Check the description of an Ultralytics model before Ultralytics builds it.

Ultralytics evaluates its `activation`, looks modules up by any name, and passes any arguments on: a description could
run code or download weights. What is allowed here is what Ultralytics' own detectors use, which is licensed under
AGPL-3.0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 1024 * 1024
MAX_LAYERS = 200
MAX_REPEATS = 100
MAX_NUMBER = 4096
"""Largest number of channels, and of every other argument of a layer."""
MAX_CLASSES = 10_000
MAX_NAME_LENGTH = 200

HEADS = ("Detect", "v10Detect", "WorldDetect", "YOLOEDetect", "RTDETRDecoder")
MODULES = frozenset(
    (
        *("nn.BatchNorm2d", "nn.ConvTranspose2d", "nn.Identity", "nn.MaxPool2d", "nn.Upsample", "nn.ZeroPad2d"),
        *("A2C2f", "AConv", "ADown", "AIFI", "Bottleneck", "BottleneckCSP", "C1", "C2", "C2PSA", "C2f", "C2fAttn"),
        *("C2fCIB", "C2fPSA", "C3", "C3Ghost", "C3TR", "C3k2", "C3x", "CBFuse", "CBLinear", "Concat", "Conv"),
        *("ConvTranspose", "DWConv", "DWConvTranspose2d", "ELAN1", "Focus", "GhostBottleneck", "GhostConv", "HGBlock"),
        *("HGStem", "ImagePoolingAttn", "Index", "PSA", "RepC3", "RepConv", "RepNCSPELAN4", "ResNetLayer", "SCDown"),
        *("SPP", "SPPELAN", "SPPF", "Silence", *HEADS),
    )
)
_SCALARS = (str, int, float, type(None))
_WORDS = frozenset(("nc", "None", "True", "False", "nearest", "bilinear"))
_ACTIVATION = re.compile(
    r"(torch\.)?nn\.(CELU|ELU|GELU|Hardswish|Identity|LeakyReLU|Mish|ReLU6?|SELU|SiLU|Softplus|Tanh)"
    r"\(([0-9]{1,3}(\.[0-9]{1,6})?)?\)"
)
_KEYS = {
    "nc": lambda value: _whole(value, 1, MAX_CLASSES),
    "reg_max": lambda value: _whole(value, 1, 64),
    "end2end": lambda value: isinstance(value, bool),
    "inplace": lambda value: isinstance(value, bool),
    "depth_multiple": lambda value: _factor(value),
    "width_multiple": lambda value: _factor(value),
    "scale": lambda value: isinstance(value, str) and len(value) <= 8,
    "scales": lambda value: (
        isinstance(value, dict)
        and 1 <= len(value) <= 16
        and all(isinstance(name, str) and len(name) <= 8 and _is_scale(scale) for name, scale in value.items())
    ),
    "activation": lambda value: isinstance(value, str) and _ACTIVATION.fullmatch(value) is not None,
}
"""Check of the value of each key; `backbone`, `head` and `names` are checked below."""


class _Loader(yaml.SafeLoader):  # type: ignore[misc, unused-ignore]
    """Reads plain yaml; refused is what lets a short file name lists of lists without end, or numbers without end."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "an alias (*) is not read; write the part out", None)
        return super().compose_node(parent, index)

    def construct_scalar(self, node: Any) -> Any:
        if node.tag != "tag:yaml.org,2002:str" and len(node.value) > MAX_NAME_LENGTH:
            raise yaml.constructor.ConstructorError(None, None, f"a number has {len(node.value)} characters", None)
        return super().construct_scalar(node)


def read(path: Path) -> dict[str, Any]:
    """Return the description in a file, checked.

    Raises:
        ValueError: it is no yaml, too large, or holds what no detector needs; the message names the file and the place.
    """
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"{path} is larger than {MAX_BYTES} bytes, which no model description is")
    try:
        described = yaml.load(data, _Loader)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no readable yaml: {' '.join(str(error).split())[:200]}") from error
    return checked(described, str(path))


def checked(described: Any, source: str) -> dict[str, Any]:
    """Return the keys of a description that build a detector, checked; other keys are left out.

    Args:
        described: from a yaml file or a checkpoint.
        source: its name in messages.

    Raises:
        ValueError: it holds a value that no detector needs.
    """
    if not isinstance(described, Mapping):
        raise ValueError(f"{source} describes no model: a mapping with backbone and head was expected")
    names = described.get("names")
    if not names:
        raise ValueError(f"{source} does not name its classes; add a list `names` to it")
    kept: dict[str, Any] = {"names": class_names(names, source)}
    for key, allowed in _KEYS.items():
        if described.get(key) is not None:
            if not allowed(described[key]):
                raise _refusal(source, key, described[key])
            kept[key] = described[key]
    if "scales" in kept:
        kept.setdefault("scale", next(iter(kept["scales"])))  # as Ultralytics chooses, with a warning
    if "scale" in kept and "scales" in kept and kept["scale"] not in kept["scales"]:
        raise _refusal(source, "scale", kept["scale"])
    for part in ("backbone", "head"):
        layers = described.get(part)
        if not isinstance(layers, list) or not 1 <= len(layers) <= MAX_LAYERS:
            raise _refusal(source, part, layers)
        kept[part] = [_layer(layer, f"{part} {number}", source) for number, layer in enumerate(layers)]
    head = kept["head"][-1][2]
    if head not in HEADS:
        raise ValueError(f"{source} ends in {head}, which is no detector's head; read here are {', '.join(HEADS)}")
    return kept


def class_names(names: Any, source: str) -> tuple[str, ...]:
    """Return the names of the classes, in their order, from a list or a mapping of numbers.

    Raises:
        ValueError: they are too many, not in order, or no text.
    """
    if isinstance(names, Mapping):
        if set(names) != set(range(len(names))):
            raise ValueError(f"{source} must number its classes from 0 on without a gap")
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list | tuple) or not 1 <= len(names) <= MAX_CLASSES:
        raise _refusal(source, "names", names)
    for name in names:
        if not isinstance(name, str | int | float) or not 1 <= len(str(name)) <= MAX_NAME_LENGTH:
            raise _refusal(source, "names", name)
    return tuple(str(name) for name in names)


def _layer(layer: Any, place: str, source: str) -> list[Any]:
    """Return one row, [from, repeats, module, arguments]."""
    if not isinstance(layer, list | tuple) or len(layer) != 4:
        raise _refusal(source, place, layer)
    origin, repeats, module, arguments = layer
    origins = origin if isinstance(origin, list | tuple) else [origin]
    if not 1 <= len(origins) <= MAX_LAYERS or not all(_whole(one, -MAX_LAYERS, 2 * MAX_LAYERS) for one in origins):
        raise _refusal(source, f"{place}, from", origin)
    if not _whole(repeats, 1, MAX_REPEATS):
        raise _refusal(source, f"{place}, repeats", repeats)
    if not isinstance(module, str) or module not in MODULES:
        raise _refusal(source, f"{place}, module", module)
    if not isinstance(arguments, list | tuple) or not _are_arguments(arguments, depth=0):
        raise _refusal(source, f"{place}, arguments of {module}", arguments)
    if module == "nn.Upsample" and len(arguments) > 1 and not (arguments[1] is None or _factor(arguments[1])):
        raise _refusal(source, f"{place}, scale of {module}", arguments[1])
    return [
        list(origin) if isinstance(origin, list | tuple) else origin,
        repeats,
        module,
        [list(one) if isinstance(one, list | tuple) else one for one in arguments],
    ]


def _are_arguments(values: Any, depth: int) -> bool:
    if len(values) > 16:
        return False
    for value in values:
        if isinstance(value, list | tuple):
            if depth == 1 or not _are_arguments(value, depth + 1):
                return False
        elif isinstance(value, str):
            if value not in _WORDS:
                return False
        elif isinstance(value, int | float):
            if not -1 <= value <= MAX_NUMBER:
                return False
        elif value is not None:
            return False
    return True


def _whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _factor(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 4


def _is_scale(scale: Any) -> bool:
    """Return whether a value is depth, width and the largest number of channels."""
    if not isinstance(scale, list | tuple) or len(scale) != 3:
        return False
    return _factor(scale[0]) and _factor(scale[1]) and _whole(scale[2], 1, MAX_NUMBER)


def _refusal(source: str, place: str, value: Any) -> ValueError:
    # Lists inside of lists are not shown: a pickle nests them without end in a few bytes.
    parts = value[:8] if isinstance(value, list | tuple) else [value]
    shown = ", ".join(repr(one) if isinstance(one, _SCALARS) else f"a {type(one).__name__}" for one in parts)
    shown = f"[{shown}]" if isinstance(value, list | tuple) else shown
    shown = shown if len(shown) <= 60 else shown[:59] + "…"
    return ValueError(
        f"{source}, {place}: {shown} is not what the description of a detector holds here, and is not built; see "
        "critics/ultralytics_yaml.py for what is"
    )
