"""Write a run in the formats of published benchmarks: `countgen report RUN --export FORMAT --out PATH`.

- `geneval`: a folder in GenEval's layout, for its own `evaluate_images.py`: a prompt's metadata and its samples.
- `geneval2`: GenEval 2's JSON object of prompts and image paths, for its own `evaluation.py`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from countgen.benchmarks.evaluation.metrics import by_arm, grouped
from countgen.benchmarks.evaluation.records import Record
from countgen.benchmarks.evaluation.report.reported_run import ReportedRun
from countgen.benchmarks.evaluation.suites.readers import GENEVAL_NAMES
from countgen.critics.vocabulary import COCO_CLASSES
from countgen.files.writing import write_atomically

GENEVAL_BOXES = 16
"""Largest number of boxes of a class that GenEval's detector keeps."""
_THEIR_NAMES = {ours: theirs for theirs, ours in GENEVAL_NAMES.items()}


def geneval_limits(records: Iterable[Record]) -> Iterator[str]:
    """Yield a sentence for each of GenEval's limits that targets exceed: its classes, and its number of boxes."""
    targets = dict.fromkeys(target for record in records for target in record.targets)
    unknown = dict.fromkeys(t.object_name for t in targets if t.object_name not in COCO_CLASSES)
    if unknown:
        yield f"GenEval's detector lacks {', '.join(unknown)}: it finds every image of them wrong"
    if beyond := sorted({t.target_count for t in targets if t.target_count > GENEVAL_BOXES}):
        counts = ", ".join(map(str, beyond))
        yield f"GenEval keeps {GENEVAL_BOXES} boxes of a class: it finds every image with a target of {counts} wrong"


def metadata(record: Record) -> dict[str, Any]:
    """Return GenEval's description of a counting prompt: at least the targets, and not one more of any."""
    named = [(_THEIR_NAMES.get(t.object_name, t.object_name), t.target_count) for t in record.targets]
    return {
        "tag": "counting",
        "include": [{"class": name, "count": count} for name, count in named],
        "exclude": [{"class": name, "count": count + 1} for name, count in named],
        "prompt": record.prompt,
    }


def write_geneval(run: ReportedRun, records: Sequence[Record], folder: Path) -> int:
    """Copy the images into GenEval's layout and return their number; samples of a prompt are ordered by seed.

    Raises:
        ValueError: the folder exists and is not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty; give a new folder")
    for place, of_prompt in enumerate(grouped(records, lambda record: record.prompt).values()):
        samples = folder / f"{place:05}" / "samples"
        samples.mkdir(parents=True)
        (samples.parent / "metadata.jsonl").write_text(json.dumps(metadata(of_prompt[0])), "utf-8")
        for sample, record in enumerate(sorted(of_prompt, key=lambda record: record.seed)):
            path = Path(str(run.image_path(record)))
            shutil.copyfile(path, samples / f"{sample:04}{path.suffix}")
    return len(records)


def export(run: ReportedRun, export_format: str, out: Path, method: str | None = None) -> int:
    """Write a run in a published benchmark's format, and return the number of images in it.

    Args:
        run: with images.
        export_format: see this module's docstring.
        out: a new folder for "geneval", otherwise a file.
        method: whose images are written; needed if the run has several.

    Raises:
        ValueError: no such method, no image, or an output folder that is not empty.
        OSError: a file cannot be written.
    """
    records = _chosen(run, method)
    if export_format == "geneval":
        return write_geneval(run, records, out)
    ordered = sorted(records, key=lambda record: record.seed, reverse=True)  # of several images the lowest seed's
    paths = {record.prompt: str(run.image_path(record)) for record in ordered}
    write_atomically(json.dumps(paths, indent=1).encode(), out)
    return len(paths)


def _chosen(reported: ReportedRun, method: str | None) -> list[Record]:
    """Return the records of one method whose images exist."""
    arms = by_arm(reported.records)
    if method is None and len(arms) > 1:
        raise ValueError(f"the run has several methods; give --method, one of {', '.join(arms)}")
    name = method or next(iter(arms))
    if name not in arms:
        raise ValueError(f"the run has no method {method!r}; it has {', '.join(arms)}")
    with_images = [record for record in arms[name] if reported.image_path(record) is not None]
    if not with_images:
        raise ValueError(f"the images of {name} are not in {reported.name}")
    return with_images
