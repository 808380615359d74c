"""The critic counts as Ultralytics' own `predict` does: `python -m benchmarks.parity`.

Rendered scenes of 0 to 20 objects, every class, the same thresholds; as they are, and at a size that must be resized.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from benchmarks.studies.critics.known_scenes import known_scenes
from countgen import miniature
from critics.detectors.yolo import YoloCritic


def stock_counts(critic: YoloCritic, images: Tensor) -> Tensor:
    """int64 (B, classes) by `YOLO.predict`, from 8-bit pictures."""
    from ultralytics import YOLO

    assert critic.object_names is not None
    classes = len(critic.object_names)
    model = critic.model
    model.names, model.task = dict(enumerate(critic.object_names)), "detect"
    model.args = {"task": "detect", "imgsz": critic.image_size}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "critic.pt"
        torch.save({"model": model, "train_args": model.args}, path)
        stock = YOLO(path)
    pixels = [image.permute(1, 2, 0).mul(255).round().byte().numpy()[..., ::-1] for image in images]
    results = stock.predict(
        pixels, conf=critic.threshold, iou=critic.nms_iou, imgsz=critic.image_size, verbose=False, batch=len(pixels)
    )
    return torch.stack([torch.bincount(result.boxes.cls.long(), minlength=classes) for result in results])


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parity", description=__doc__)
    parser.add_argument("--per-count", type=int, default=5, help="scenes of each count")
    options = parser.parse_args(arguments)
    critic = miniature.load_detector("miniature-yolo")
    assert isinstance(critic, YoloCritic)
    assert critic.object_names is not None
    scenes = [s.images for s in known_scenes(options.per_count, "reporting") if s.condition == "plain"]
    images = torch.cat(scenes).mul(255).round().div(255)
    larger = interpolate(images, (150, 200), mode="bilinear").mul(255).round().div(255)
    for label, shown in (("as they are", images), ("200 x 150, resized by both", larger)):
        ours, theirs = critic.counts(shown, critic.object_names), stock_counts(critic, shown)
        equal = int((ours == theirs).all(1).sum())
        most = int((ours - theirs).abs().max())
        print(f"{label}: {equal} of {len(shown)} scenes equal in every class; largest difference {most}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
