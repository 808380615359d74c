"""The embedded default: small trained models, and the rendered world they were trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from critics import Critic

FOLDER = Path(__file__).parent
"""Holds a stock pipeline folder per generator, and a folder per detector."""

DETECTORS: dict[str, tuple[str, dict[str, Any], float]] = {
    "miniature-yolo": (
        "yolo",
        {
            "weights": FOLDER / "critic" / "model.safetensors",
            "config": FOLDER / "critic" / "yolo11n.yaml",
            "image_size": 128,
            "threshold": 0.45,
            "nms_iou": 0.5,
        },
        1.2,
    ),
    "miniature-heatmap": ("centernet", {"weights": FOLDER / "heatmap" / "model.safetensors"}, 0.05),
    "miniature-fcos": ("fcos", {"weights": FOLDER / "judge" / "model.safetensors"}, 0.85),
}
"""By short name: the critic's file, its options, and the margin it asks for, in its own logits.

The heat map is hesitant: its logits lie close to the threshold, and a small margin of it says much. Margins were
chosen with `benchmarks.confirmation` and `benchmarks.tuning margins`.
"""

CRITICS = ("miniature-yolo", "miniature-heatmap")
JUDGE = "miniature-fcos"


def load_detector(name: str, device: str | torch.device = "cpu") -> Critic:
    """Load one of `DETECTORS`; in records it goes by its short name."""
    from critics import load

    kind, options, margin = DETECTORS[name]
    critic = load(kind, **options, device=device)
    critic.name, critic.margin = name, margin
    return critic
