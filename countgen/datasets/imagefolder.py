"""Write a Hugging Face imagefolder: images/SPLIT/metadata.jsonl."""

from __future__ import annotations

from collections.abc import Sequence

from countgen.datasets.folder import Folder
from countgen.datasets.sampler import Attempt
from countgen.files.schema import encoded


def write(folder: Folder, samples: Sequence[Attempt]) -> None:
    """Write a line for each image: boxes as in COCO, categories as indices of the plan's classes."""
    numbers = {name: number for number, name in enumerate(folder.plan.classes)}
    lines: dict[str, list[bytes]] = {split: [] for split in folder.plan.splits}
    for sample in samples:
        _, split, name = sample.image.split("/")
        line = {
            "file_name": name,
            "prompt": folder.cells[sample.cell].cell.prompt,
            "probability": sample.probability,
            "objects": {
                "bbox": [box.xywh for box in sample.boxes],
                "category": [numbers[box.object_name] for box in sample.boxes],
            },
        }
        lines[split].append(encoded(line) + b"\n")
    for split, of_split in lines.items():
        folder.write(f"images/{split}/metadata.jsonl", b"".join(of_split))
