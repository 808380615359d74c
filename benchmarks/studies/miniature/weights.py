"""Old against new weights of the SDXL-shaped embedded generator on the same seeds, by the detectors and by eye.

`python -m benchmarks.studies.miniature.weights OLD NEW --pages FOLDER` prints the counts of plain images, of one step
and of more, and writes pages of the card's cases in a shuffled order that does not tell which weights generated an
image. A reader writes the numbers of the clear images, those in which everything is recognisably one of the objects
asked for, whatever the count, into `FOLDER/clear.txt`; `--read FOLDER` prints them by weights.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from time import process_time

from PIL import Image, ImageDraw

from benchmarks.evaluation.statistics import duel, rate
from benchmarks.studies.cases import one_class
from benchmarks.studies.markdown import paired, table
from benchmarks.studies.miniature.grid import COUNTS as GRID_COUNTS
from benchmarks.studies.miniature.grid import grid_cases, to_pil
from benchmarks.studies.miniature.samples import MORE_STEPS, Sample, draw, samples
from countgen import backbones, miniature
from countgen.backbones import Backbone

COUNTS = range(1, 13)
GROUPS = (("1-5", 1, 5), ("6-10", 6, 10), ("11-12", 11, 12), ("all", 1, 12))
NAMES = ("old", "new")
IMAGES_A_PAGE, IMAGES_A_ROW, SIDE, LABEL = 12, 4, 384, 20
SECOND_JUDGE = "miniature-density"
SEED = 15
KEY, ANSWERS = "key.json", "clear.txt"
TIMED = 48
"""Cases that are timed, of one object each."""


def counted(generators: dict[str, Backbone], images: int) -> str:
    """Return Markdown: accuracy by two judges, agreement of critic and judge and CPU seconds, old against new.

    Args:
        generators: backbones by name, of `NAMES`.
        images: plain images per count.
    """
    cases = one_class(COUNTS, images, "reporting")
    names = (miniature.CRITICS[0], miniature.JUDGE, SECOND_JUDGE)
    critic, judge, second = (miniature.load_detector(name) for name in names)
    found, seconds = {}, {}
    for name in NAMES:
        found[name] = samples(name, generators[name], cases, [critic, judge, second])
        begun = process_time()
        draw(generators[name], cases[:TIMED])
        seconds[name] = (process_time() - begun) / len(cases[:TIMED])
    right = {name: [s.counts[judge.name] == s.target_count for s in found[name]] for name in NAMES}
    same = {name: [s.counts[judge.name] == s.counts[critic.name] for s in found[name]] for name in NAMES}
    rows = [
        [f"right, {label}, %", *(rate(_between(found[name], right[name], low, high)) for name in NAMES)]
        for label, low, high in GROUPS
    ]
    by_second = {name: [s.counts[second.name] == s.target_count for s in found[name]] for name in NAMES}
    rows.append([f"right by {second.name}, all, %", *(rate(by_second[name]) for name in NAMES)])
    rows.append(["critic and judge agree, %", *(rate(same[name]) for name in NAMES)])
    errors = [[abs(s.counts[judge.name] - s.target_count) for s in found[name]] for name in NAMES]
    rows.append(["mean error, objects", *(f"{sum(mine) / len(mine):.2f}" for mine in errors)])
    rows.append(["CPU seconds an image", *(f"{seconds[name]:.3f}" for name in NAMES)])
    shown = table([f"{judge.name}, n = {len(cases)}", *NAMES], rows)
    return "\n\n".join(
        [
            shown,
            "Right: " + paired("new", "old", duel(right["new"], right["old"])),
            f"Right by {second.name}: " + paired("new", "old", duel(by_second["new"], by_second["old"])),
            "Agreement: " + paired("new", "old", duel(same["new"], same["old"])),
        ]
    )


def more_steps(generators: dict[int, dict[str, Backbone]], images: int) -> str:
    """Return Markdown: accuracy by the judge at each number of steps, old against new.

    Args:
        generators: backbones by number of steps and name, of `NAMES`.
        images: plain images per count and number of steps.
    """
    cases = one_class(COUNTS, images, "reporting")
    judge = miniature.load_detector(miniature.JUDGE)
    rows, duels = [], []
    for steps, by_name in generators.items():
        right = {}
        for name, backbone in by_name.items():
            right[name] = [s.counts[judge.name] == s.target_count for s in samples(name, backbone, cases, [judge])]
        rows.append([f"right, {steps} steps, %", *(rate(right[name]) for name in NAMES)])
        duels.append(f"{steps} steps: " + paired("new", "old", duel(right["new"], right["old"])))
    return "\n\n".join([table([f"{judge.name}, n = {len(cases)}", *NAMES], rows), *duels])


def _between(found: Sequence[Sample], hits: Sequence[bool], low: int, high: int) -> list[bool]:
    return [hit for sample, hit in zip(found, hits, strict=True) if low <= sample.target_count <= high]


def write_pages(generators: dict[str, Backbone], folder: Path) -> None:
    """Write the card's cases of both generators as numbered images on pages, and a key that names them.

    Raises:
        ValueError: the folder holds the pages of a reading.
    """
    if (folder / KEY).exists():
        raise ValueError(f"{folder} holds the pages of a reading; give another folder")
    cases = grid_cases()
    drawn = {name: dict(draw(backbone, cases)) for name, backbone in generators.items()}
    key = [(name, number) for name in NAMES for number in range(len(cases))]
    random.Random(SEED).shuffle(key)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / KEY).write_text(json.dumps(key))
    for first in range(0, len(key), IMAGES_A_PAGE):
        shown = key[first : first + IMAGES_A_PAGE]
        rows = -(-len(shown) // IMAGES_A_ROW)
        page = Image.new("RGB", (IMAGES_A_ROW * SIDE, rows * (SIDE + LABEL)), "white")
        pen = ImageDraw.Draw(page)
        for place, (name, number) in enumerate(shown):
            x, y = place % IMAGES_A_ROW * SIDE, place // IMAGES_A_ROW * (SIDE + LABEL)
            pen.text((x + 4, y + 4), f"{first + place}: {cases[number].prompt}", fill="black")
            image = to_pil(drawn[name][cases[number]]).resize((SIDE - 4, SIDE - 4), Image.Resampling.LANCZOS)
            page.paste(image, (x, y + LABEL))
        page.save(folder / f"page-{first // IMAGES_A_PAGE + 1:02d}.png")


def read_pages(folder: Path) -> str:
    """Return Markdown: the images that the reader of the pages calls clear, by weights and count.

    Raises:
        ValueError: the answers are missing, or hold a number twice, or one that no image has.
    """
    answers = folder / ANSWERS
    if not answers.is_file():
        raise ValueError(f"{answers} is missing: write the numbers of the clear images into it, separated by spaces")
    key = [(name, number) for name, number in json.loads((folder / KEY).read_text())]
    words = answers.read_text().split()
    if len(set(words)) < len(words) or not {str(number) for number in range(len(key))}.issuperset(words):
        raise ValueError(f"{answers} must hold each number from 0 to {len(key) - 1} at most once, separated by spaces")
    clear = {key[int(word)] for word in words}
    cases = grid_cases()
    hits = {name: [(name, number) in clear for number in range(len(cases))] for name in NAMES}
    rows = [
        [f"clear, {count} objects, %", *(rate(hits[name][place :: len(GRID_COUNTS)]) for name in NAMES)]
        for place, count in enumerate(GRID_COUNTS)
    ]
    rows.append(["clear, all, %", *(rate(hits[name]) for name in NAMES)])
    rows.append(["clear images", *(str(sum(hits[name])) for name in NAMES)])
    shown = table([f"by eye, n = {len(cases)}", *NAMES], rows)
    return f"{shown}\n\nClear: {paired('new', 'old', duel(hits['new'], hits['old']))}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.miniature.weights", description=__doc__)
    parser.add_argument("folders", nargs="*", metavar="OLD NEW", help="pipeline folders of the old and new weights")
    parser.add_argument("--images", type=int, default=48, help="plain images per count; half of it with more steps")
    parser.add_argument("--pages", type=Path, help="folder for the pages of the blind reading")
    parser.add_argument("--read", type=Path, help="print a finished blind reading of this folder instead")
    options = parser.parse_args(arguments)
    if len(options.folders) != (0 if options.read else len(NAMES)) or options.images < 1:
        parser.error("give two pipeline folders, OLD and NEW, or --read FOLDER; --images is 1 or more")
    try:
        if options.read:
            print(read_pages(options.read))
            return 0
        for folder in options.folders:
            if not (Path(folder) / "model_index.json").is_file():
                raise ValueError(f"{folder} is not a pipeline folder (no model_index.json)")
        folders = dict(zip(NAMES, options.folders, strict=True))
        # All are read before anything is measured: a folder may change meanwhile.
        by_steps = {
            steps: {
                name: backbones.load("miniature", repository=folder, num_inference_steps=steps)
                for name, folder in folders.items()
            }
            for steps in (1, *MORE_STEPS)
        }
        generators = by_steps.pop(1)
        if options.pages:
            write_pages(generators, options.pages)
        print(counted(generators, options.images))
        print("\n" + more_steps(by_steps, -(-options.images // 2)))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
