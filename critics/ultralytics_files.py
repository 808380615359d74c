"""Read Ultralytics detectors from a checkpoint, or from a yaml and safetensors.

Ultralytics is licensed under AGPL-3.0.
"""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from countgen.critics import ultralytics_checkpoint, ultralytics_yaml
from countgen.critics.base import Critic
from countgen.critics.settings import CriticSettings
from countgen.critics.weights import AnyCritic, explained, one_line, recorded_as, threshold_of
from countgen.files import hub
from countgen.files.printable import printable

TRAINED_SIZE = 640
"""Image size where the file does not state one: that of nearly every Ultralytics checkpoint."""

PREDICT_THRESHOLD = 0.25
"""Default threshold of Ultralytics' `predict`."""

MAX_PARAMETERS = 500_000_000
"""Ultralytics' largest detector has 73 million."""

KINDS = ("ultralytics_rtdetr", "yolo", "yolo_world")
"""Critics that are read from these files."""

SUFFIXES = (".pt", ".safetensors")
TEXT_HEADS = ("WorldDetect", "YOLOEDetect")
"""Heads whose classes are embeddings, so that there may be more or fewer of them than when they were built."""

PRESETS = {
    f"{model}{size}": f"Ultralytics/{repository}/{model}{size}.pt"
    for model, repository in (("yolov8", "YOLOv8"), ("yolo11", "YOLO11"), ("yolo26", "YOLO26"))
    for size in "nsmlx"
}
"""Short names of files in the publisher's repositories on the hub; each is a pickle."""


@dataclass(frozen=True)
class Checkpoint:
    """A detector read from a file.

    Attributes:
        model: on the CPU, in float32.
        object_names: its classes, in their order.
        name: of its critic in records.
        settings: that the file states, fields of `CriticSettings`: the image size of its training, and the threshold
            measured to count best.
    """

    model: nn.Module
    object_names: tuple[str, ...]
    name: str
    settings: dict[str, Any]


def import_ultralytics() -> Any:
    """Return Ultralytics, imported without its network requests, downloads and usage events, unless the user set them.

    Importing it takes seconds, and critics of other kinds do not need it.
    """
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_VERBOSE", "false")
    if "YOLO_CONFIG_DIR" not in os.environ:
        folder = Path(tempfile.gettempdir()) / f"countgen-ultralytics-{os.getuid() if hasattr(os, 'getuid') else 0}"
        folder.mkdir(mode=0o700, exist_ok=True)
        os.environ["YOLO_CONFIG_DIR"] = str(folder)
    import ultralytics.nn.tasks

    return ultralytics


def build(config: Path) -> tuple[nn.Module, tuple[str, ...]]:
    """Return the architecture of an Ultralytics yaml, randomly initialised, with its class names.

    Raises:
        ValueError: the yaml has no `names`, or holds what `countgen.critics.ultralytics_yaml` does not allow.
    """
    described = ultralytics_yaml.read(config)
    return assembled(described, len(described["names"]), str(config)), described["names"]


def assembled(
    described: Mapping[str, Any], classes: int, source: str, tensors: Mapping[str, Tensor] | None = None
) -> nn.Module:
    """Return the model of a description.

    Args:
        described: as `countgen.critics.ultralytics_yaml` checked it.
        classes: number of classes of the head.
        source: its name in messages.
        tensors: its weights; random ones by default.

    Raises:
        ValueError: nothing can be built from it, it is too large, or the weights are of another architecture.
    """
    network = import_ultralytics().nn
    tasks, convolution = network.tasks, network.modules.Conv
    layers = copy.deepcopy({key: value for key, value in described.items() if key != "names"}) | {"nc": classes}
    family = {
        "RTDETRDecoder": tasks.RTDETRDetectionModel,
        "WorldDetect": tasks.WorldModel,
        "YOLOEDetect": tasks.YOLOEModel,
    }.get(layers["head"][-1][2], tasks.DetectionModel)
    usual = convolution.default_act  # a global of Ultralytics, which stays changed if building fails
    try:
        with explained(f"no model can be built from {source}", WeightsError):
            with torch.device("meta"):  # shapes alone, so that no file can allocate more memory than its own size
                modules, _ = tasks.parse_model(copy.deepcopy(layers), ch=3, verbose=False)
            _check_shapes(nn.ModuleDict({"model": modules}).state_dict(), tensors, source)
            model: nn.Module = family(layers, nc=classes, verbose=False)
    finally:
        convolution.default_act = usual
    if tensors is not None:
        model.load_state_dict(tensors)
    return model


class WeightsError(ValueError):
    """Weights that do not fit the model, or a model that is too large."""


def _check_shapes(built: Mapping[str, Tensor], tensors: Mapping[str, Tensor] | None, source: str) -> None:
    parameters = sum(value.numel() for value in built.values())
    if parameters > MAX_PARAMETERS:
        raise WeightsError(f"{source} describes {parameters} parameters; detectors have at most {MAX_PARAMETERS}")
    if tensors is None:
        return
    wrong = [name for name, value in built.items() if name not in tensors or tensors[name].shape != value.shape]
    wrong += [name for name in tensors if name not in built]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise WeightsError(
            f"{', '.join(printable(name, 80) for name in wrong[:3])}{more} are missing, unknown or of another shape"
        )


def find(weights: str | Path, revision: str | None = None) -> Path:
    """Return the path of a local file, or of a file of a repository on the hub, downloaded once.

    Args:
        weights: a path, one of `PRESETS`, or OWNER/REPOSITORY/FILE.
        revision: a branch, tag or commit of the repository.

    Raises:
        OSError: the file is missing, and the name is not a repository's; or it is not in the hub's cache and cannot be
            downloaded.
    """
    path = hub.resolve(PRESETS.get(str(weights), str(weights)), (), revision=revision)
    if not path.is_file():
        raise FileNotFoundError(
            f"no such file: {weights}; give the path of an Ultralytics checkpoint, OWNER/REPOSITORY/FILE on the hub or "
            f"one of {', '.join(PRESETS)}; nothing else is downloaded"
        )
    return path


def read(
    kind: str,
    weights: str | Path,
    config: str | Path | None = None,
    revision: str | None = None,
    *,
    trust_checkpoint: bool = False,
) -> Checkpoint:
    """Read a detector; no code in its files runs, unless a checkpoint is trusted.

    Args:
        kind: the critic's file in `critics/detectors`.
        weights: as of `find`: a `.pt`, of which the description and the tensors are read as data, or `.safetensors`.
        config: for safetensors, the architecture's yaml with a `names` list.
        revision: of the repository on the hub.
        trust_checkpoint: let Ultralytics load the `.pt`, a pickle: whatever code its author put into it runs. For
            checkpoints that cannot be read as data, such as fused ones.

    Raises:
        OSError: the weights or the config are missing or cannot be read.
        ValueError: a file of another format, safetensors without a config, weights of another architecture, or a
            checkpoint that cannot be read as data.
    """
    path = find(weights, revision)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path} is neither {' nor '.join(SUFFIXES)}; give one of these")
    name = recorded_as(kind, path)
    if path.suffix == ".pt":
        return _trusted(path, name) if trust_checkpoint else _as_data(kind, path, name)
    if config is None:
        raise ValueError(f"{path.name} holds weights only: give config= the architecture's yaml")
    described = ultralytics_yaml.read(Path(config))
    try:
        with safe_open(path, "pt") as file:
            threshold = threshold_of(file.metadata() or {}, path)
        model = assembled(described, len(described["names"]), str(config), load_file(path))
    except (WeightsError, SafetensorError) as error:
        raise ValueError(f"{path} does not hold the weights of {config}: {one_line(error)}") from error
    return Checkpoint(model, described["names"], name, {} if threshold is None else {"threshold": threshold})


def _as_data(kind: str, path: Path, name: str) -> Checkpoint:
    """Return the detector in a checkpoint, built anew."""
    try:
        contents = ultralytics_checkpoint.read(path)
        names = contents.described["names"]
        classes = contents.described.get("nc", len(names))
        if classes != len(names) and contents.described["head"][-1][2] not in TEXT_HEADS:
            raise ValueError(f"it names {len(names)} classes and scores {classes}")
        model = assembled(contents.described, classes, "its description", contents.tensors)
    except ValueError as error:
        raise ValueError(
            f"cannot read {kind} from {path} without running code from it: {error}. If it is whole and you trust "
            "its author, give trust_checkpoint=True, on the command line --trust-checkpoint: then it may do whatever "
            "you may do on this machine"
        ) from error
    for attribute, embeddings in contents.text.items():
        setattr(model, attribute, embeddings)
    return Checkpoint(model, names, name, {"image_size": contents.image_size or TRAINED_SIZE})


def _trusted(path: Path, name: str) -> Checkpoint:
    """Return the detector in a checkpoint as Ultralytics loads it, running the code in the file."""
    with explained(f"{path} was trusted and gave no detector, but code in it may have run"):
        stock = import_ultralytics().YOLO(str(path), task="detect")
        names = tuple(stock.names[index] for index in sorted(stock.names))
        size = int(stock.overrides.get("imgsz", TRAINED_SIZE))
        return Checkpoint(stock.model.float(), names, name, {"image_size": size})


class UltralyticsCritic(Critic):
    """A detector of Ultralytics.

    Attributes:
        heads: classes of the last layer that the critic reads.
    """

    settings = CriticSettings(threshold=PREDICT_THRESHOLD, nms_iou=0.7, image_size=TRAINED_SIZE)  # as `predict` has
    heads: tuple[str, ...]

    def __init__(self, model: Any, object_names: Sequence[str], *, name: str = "", **settings: Any) -> None:
        super().__init__(model, object_names, name=name, **settings)
        self._head: Any = model.model[-1]
        kind = type(self._head).__name__
        if kind not in self.heads:
            raise ValueError(
                f"{self.name} ends in {kind}; expected {' or '.join(self.heads)}; see critics.available() for others, "
                f"{', '.join(map(repr, KINDS))} among them"
            )

    @property
    def image_size(self) -> int:
        """The longer side of its input."""
        return self.settings.image_size or TRAINED_SIZE

    def forget_unusable_anchors(self, key: str, dtype: torch.dtype) -> None:
        """Make the head recompute its anchors, where the cached ones would break the next pass.

        Anchors made under `inference_mode` would make the next backward fail; those made under autocast are coarse.

        Args:
            key: the head's attribute that holds the shapes of the cache.
            dtype: of the images.
        """
        anchors = getattr(self._head, "anchors", None)
        if anchors is not None and (anchors.is_inference() or anchors.dtype != dtype):
            setattr(self._head, key, None)


def load_critic(
    critic_class: type[AnyCritic],
    *,
    weights: str | Path,
    config: str | Path | None = None,
    revision: str | None = None,
    trust_checkpoint: bool = False,
    device: str | torch.device = "cpu",
) -> AnyCritic:
    """Return the critic of a detector; the other arguments are those of `read`."""
    checkpoint = read(critic_class.kind(), weights, config, revision, trust_checkpoint=trust_checkpoint)
    names, model = checkpoint.object_names, checkpoint.model.to(device)
    return critic_class(model, names, name=checkpoint.name, **checkpoint.settings)
