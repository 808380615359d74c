"""Write Ultralytics YOLO: data.yaml, and labels/SPLIT/NAME.txt beside images/SPLIT/NAME.png."""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from countgen.datasets.folder import Folder
from countgen.datasets.sampler import Attempt


def write(folder: Folder, samples: Sequence[Attempt]) -> None:
    """Write data.yaml and the labels; Ultralytics needs train and val, which the first split stands for if missing."""
    splits = list(folder.plan.splits)
    paths = {
        split: f"images/{split if split in splits else splits[0]}" for split in dict.fromkeys(("train", "val", *splits))
    }
    names = dict(enumerate(folder.plan.classes))
    folder.write("data.yaml", yaml.safe_dump({**paths, "names": names}, sort_keys=False))
    numbers = {name: number for number, name in names.items()}
    for sample in samples:
        lines = []
        for box in sample.boxes:
            x, y, width, height = box.xywh
            relative = (
                (x + width / 2) / sample.width,
                (y + height / 2) / sample.height,
                width / sample.width,
                height / sample.height,
            )
            lines.append(f"{numbers[box.object_name]} {' '.join(f'{value:.6f}' for value in relative)}\n")
        folder.write(f"{sample.image.replace('images/', 'labels/', 1).removesuffix('.png')}.txt", "".join(lines))
