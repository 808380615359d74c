"""Build the golden set: images of finished runs, chosen by a fixed seed, as JPEG, and contact sheets to count them.

`python -m benchmarks.studies.golden_set choose RUN [RUN ...]` writes images and records to `benchmarks/golden`;
`python -m benchmarks.studies.golden_set sheets --labeller NAME --out DIR` writes contact sheets and the CSV that
`countgen label benchmarks/golden --read DIR/sheet.csv --labeller NAME` saves once its counts are filled in;
`python -m benchmarks.studies.golden_set compare RUN [RUN ...]` prints how often the embedded detectors count a JPEG as
its PNG.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from benchmarks.evaluation.golden import FOLDER
from benchmarks.evaluation.image_files import open_image
from benchmarks.evaluation.label_sheet import write_sheet
from benchmarks.evaluation.records import IMAGES, SETTINGS, Record, pack, read_run, to_line
from benchmarks.evaluation.statistics import rate
from countgen import miniature
from critics.validation import to_batch

SEED = 18
JPEG_QUALITY = 90
PLAN = {
    # suite: (images by arm, prompts to choose from) of each sum of target counts
    "words": ({"plain": 4, "edit": 4, "search": 3, "noise": 3, "lmn": 3, "auto": 3}, 15),
    "beyond": (dict.fromkeys(("plain", "search", "auto", "search+as-written", "auto+as-written"), 2), 5),
    "two-classes": (dict.fromkeys(("plain", "edit", "search", "auto"), 1), 2),
}
"""How many images of each arm and target count are chosen, and from how many prompts: the first of the suite."""
LARGEST_COUNT = 15
COLUMNS, ROWS, SIDE, CAPTION = 3, 2, 512, 44


def chosen(folder: Path) -> list[tuple[Record, Image.Image]]:
    """Return the images of a run that the plan takes, no two of them equal, and of one prompt as few as possible."""
    groups: dict[int, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in read_run(folder)[1]:
        count = sum(target.target_count for target in record.targets)
        if record.status == "done" and count <= LARGEST_COUNT:
            groups[count][record.method].append(record)
    taken: dict[bytes, tuple[Record, Image.Image]] = {}
    for count in sorted(groups):
        arms, prompts = PLAN[next(iter(groups[count].values()))[0].suite]
        used: Counter[int] = Counter()
        for arm, number in arms.items():
            candidates = groups[count][arm][:prompts]
            for _ in range(number):
                candidates.sort(key=lambda one: (used[one.seed], _order(one.key)))
                for record in candidates:
                    with open_image(folder / str(record.image)) as file:
                        image = file.convert("RGB")
                    if image.tobytes() not in taken:
                        taken[image.tobytes()] = record, image
                        used[record.seed] += 1
                        break
    return list(taken.values())


def write(images: Sequence[tuple[Record, Image.Image]], out: Path) -> None:
    """Write the images as JPEG, and a run's settings and records without what a set of images does not need."""
    (out / IMAGES).mkdir(parents=True, exist_ok=True)
    lines = []
    for record, image in sorted(images, key=lambda one: one[0].key):
        name = f"{IMAGES}/{record.key}.jpg"
        image.save(out / name, quality=JPEG_QUALITY, optimize=True)
        lines.append(to_line(replace(record, image=name, before=None, boxes={}, trace=record.trace[-1:])))
    pack(lines, out)
    records = [record for record, _ in images]
    settings = {
        "suite": "golden",
        "backbones": list(dict.fromkeys(record.backbone for record in records)),
        "methods": list(dict.fromkeys(record.method for record in records)),
        "critics": list(records[0].critics),
        "judges": list(records[0].judges),
    }
    (out / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n")


def _order(key: str) -> bytes:
    return hashlib.sha256(f"{SEED}/{key}".encode()).digest()


def contact_sheets(folder: Path, rows: Sequence[tuple[str, str]]) -> Iterator[Image.Image]:
    """Yield sheets of six enlarged images, each with its number and the objects to count.

    Args:
        folder: of the set.
        rows: (image relative to the folder, object) in the order of a sheet of labels.
    """
    objects: dict[str, list[str]] = {}
    for name, object_name in rows:
        objects.setdefault(name, []).append(object_name)
    font = ImageFont.load_default(32)
    images = list(enumerate(objects.items(), start=1))
    for start in range(0, len(images), COLUMNS * ROWS):
        sheet = Image.new("RGB", (COLUMNS * (SIDE + 8), ROWS * (SIDE + CAPTION)), "white")
        draw = ImageDraw.Draw(sheet)
        for place, (number, (name, object_names)) in enumerate(images[start : start + COLUMNS * ROWS]):
            x, y = place % COLUMNS * (SIDE + 8), place // COLUMNS * (SIDE + CAPTION)
            with open_image(folder / name) as file:
                sheet.paste(file.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS), (x, y + CAPTION))
            draw.text((x + 4, y + 2), f"{number}  {' + '.join(object_names)}", "black", font)
        yield sheet


def print_equal_counts(folder: Path, runs: Sequence[Path]) -> None:
    """Print for each embedded detector how often it counts the JPEG of the set as the PNG of the run."""
    stored = {record.key: record for record in read_run(folder)[1]}
    originals = {
        record.key: run / str(record.image) for run in runs for record in read_run(run)[1] if record.key in stored
    }
    print("| detector | counts | equal |\n| --- | --- | --- |")
    for name in miniature.DETECTORS:
        judge = miniature.load_detector(name)
        equal: list[bool] = []
        for key, path in originals.items():
            names = [target.object_name for target in stored[key].targets]
            png, jpeg = (judge.counts(to_batch(one), names)[0] for one in (path, folder / str(stored[key].image)))
            equal += (png == jpeg).tolist()
        print(f"| {name} | {len(equal)} | {rate(equal)} |", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.golden_set", description=__doc__)
    parser.add_argument("--set", type=Path, default=FOLDER, metavar="DIR", help="folder of the set (%(default)s)")
    actions = parser.add_subparsers(dest="action", required=True)
    choose = actions.add_parser("choose", help="write images and records")
    choose.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    compare = actions.add_parser("compare", help="print how often detectors count a JPEG as its PNG")
    compare.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    sheets = actions.add_parser("sheets", help="write contact sheets and a CSV for counts")
    sheets.add_argument("--labeller", required=True)
    sheets.add_argument("--seed", type=int, default=SEED, help="of the order (%(default)s)")
    sheets.add_argument("--number", type=int, help="of images (all that are left)")
    sheets.add_argument("--out", type=Path, required=True, metavar="DIR")
    options = parser.parse_args(arguments)
    if options.action == "choose":
        images = [one for run in options.runs for one in chosen(run)]
        write(images, options.set)
        print(f"{len(images)} images in {options.set}")
        return 0
    if options.action == "compare":
        print_equal_counts(options.set, options.runs)
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "sheet.csv"
    write_sheet(options.set, path, options.labeller, seed=options.seed, limit=options.number)
    with path.open(encoding="utf-8", newline="") as file:
        rows = [(row["image"], row["object"]) for row in csv.DictReader(file)]
    for number, sheet in enumerate(contact_sheets(options.set, rows), start=1):
        sheet.save(options.out / f"sheet-{number:02d}.png")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
