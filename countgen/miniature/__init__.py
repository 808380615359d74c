"""The miniature: small trained models that are part of the package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from countgen.critics import Critic

FOLDER = Path(__file__).parent
"""The folder of the embedded models: a stock pipeline folder per generator, and a folder per detector."""


@dataclass(frozen=True)
class Detector:
    """An embedded detector; its threshold, if it has one, is in the metadata of its weights.

    Attributes:
        kind: name of the critic's file in `critics/detectors/`.
        options: arguments of that file's `load`.
        safe_distance: see `critics.Critic`.
    """

    kind: str
    options: dict[str, Any]
    safe_distance: float


_YOLO = {
    "weights": FOLDER / "critic" / "model.safetensors",
    "config": FOLDER / "critic" / "yolo11n.yaml",
    "image_size": 128,
    "nms_iou": 0.5,
}
DETECTORS = {
    "miniature-yolo": Detector("yolo", _YOLO, 1.2),
    "miniature-heatmap": Detector("centernet", {"weights": FOLDER / "heatmap" / "model.safetensors"}, 0.05),
    "miniature-fcos": Detector("fcos", {"weights": FOLDER / "judge" / "model.safetensors"}, 0.85),
    "miniature-density": Detector("density", {"weights": FOLDER / "density" / "model.safetensors"}, 0.3),
}
"""The embedded detectors by short name.

The heat map's logits lie close to the threshold, so its safe distance is small. Safe distances were chosen with
`git show 7b186aa:benchmarks/studies/tuning.py`.
"""

CRITICS = ("miniature-yolo", "miniature-heatmap")
JUDGE = "miniature-fcos"


def load_detector(name: str, device: str | torch.device = "cpu") -> Critic:
    """Load one of `DETECTORS`, which has its short name in records."""
    from countgen.critics import load

    found = DETECTORS[name]
    critic = load(found.kind, **found.options, device=device)
    critic.name, critic.safe_distance = name, found.safe_distance
    return critic
