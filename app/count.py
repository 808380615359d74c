"""`countgen count`: how many objects are in images."""

import csv
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from countgen import miniature
from countgen.app.arguments import Count
from countgen.app.exit_codes import NOT_REACHED, OK
from countgen.app.file_names import free_paths
from countgen.app.options import announce_downloads, names
from countgen.app.result_lines import boxes_of
from countgen.app.terminal import fitted
from countgen.critics import NO_ANSWER, Critic
from countgen.critics.catalogue import FACTS
from countgen.critics.validation import to_batch
from countgen.detector_choice import COCO_COUNTER, counter
from countgen.files.image_file import SUFFIXES
from countgen.files.printable import printable
from countgen.files.spreadsheet import cell
from countgen.files.writing import write_atomically
from countgen.images import check_writable, draw_detections, read_recipe, save_png
from countgen.models import check_detectors, load_critic
from countgen.progress import counted_progress, loading
from countgen.prompts.plurals import counted_in_words
from countgen.recipe_fields import fields_of


def run(command: Count) -> int:
    """Count in each image, and print what is counted, image by image."""
    if command.json + command.csv + command.listed > 1:
        raise ValueError("give one of --json, --csv and --list")
    if command.expect is None and (command.listed or command.copy):
        raise ValueError("--list and --copy need conditions, such as --expect 'apple=7'")
    images, words = (list(map(Path, command.words)), []) if command.expect else _divided(command.words)
    files = list(dict.fromkeys(_files(images)))
    generated, judges = _said_by_recipes(files)
    objects = command.expect.object_names if command.expect else names(words) or tuple(generated)
    if not objects:
        given = f"{' '.join(words)!r} names no object" if words else "no recipe says what to count"
        raise ValueError(f"{given}; write 'apple', or 'apple,dog' for several, after the images")
    several = len(files) > 1
    if command.boxes:
        if (command.boxes.suffix.lower() == ".png") == several:
            wanted = "be a folder for several images" if several else "end in .png for one image"
            raise ValueError(f"--boxes {command.boxes} must {wanted}")
        check_writable(command.boxes if several else command.boxes.parent)
    if command.copy:
        check_writable(command.copy)
    device = command.available_device()
    critic = _critic(command, judges, objects, device)
    if command.boxes and not critic.detects:
        raise ValueError(f"{critic.name} counts without boxes; leave --boxes out, or give another --critic")

    def records() -> Iterator[dict[str, Any]]:
        for file in files:
            boxes = command.boxes / f"{file.stem}-boxes.png" if command.boxes and several else command.boxes
            try:
                record = _counted(critic, file, objects, device, boxes)
            except (OSError, ValueError) as error:
                yield {"image": str(file), "error": " ".join(str(error).split())}
                continue
            if command.expect:
                record["matches"] = command.expect.holds(record["counts"])
                if command.copy and record["matches"]:
                    record["copy"] = str(_copied(file, command.copy))
            yield record

    if command.csv:
        _write_csv(("image", "object", "count", *(["matches"] if command.expect else [])))
    elif command.json:
        print(f'{{"critic": {json.dumps(critic.name)}, "images": [', end="")
    total, unread, matching = dict.fromkeys(objects, 0), 0, 0
    # On a terminal the images themselves show how far the work is.
    shown = several and not sys.stdout.isatty()
    progress = counted_progress(records(), len(files), has_failed=lambda one: "error" in one, shown=shown)
    for index, record in enumerate(progress):
        if command.json:
            print(",\n" if index else "\n", json.dumps(record), sep="", end="")
        else:
            _report(command, record)
        unread += "error" in record
        matching += record.get("matches", False)
        for name, count in record.get("counts", {}).items():
            total[name] += count
    summary = {"total": total, "unread": unread} | ({"matching": matching} if command.expect else {})
    if command.json:
        print(f"\n], {json.dumps(summary)[1:]}")
    elif command.text and several:
        matched = f"{matching} of {len(files)} images match {command.expect}; " if command.expect else ""
        print(fitted(f"{matched}together: {counted_in_words(total)} in {len(files) - unread} images, by {critic.name}"))
    return NOT_REACHED if unread or (command.expect and matching < len(files)) else OK


def _divided(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Return images and objects of a command line; a last word without the suffix of an image is an object."""
    images: list[Path] = list(map(Path, words))
    objects: list[str] = []
    while len(images) > 1 and not _is_image(images[-1], last=not objects):
        objects.insert(0, str(images.pop()))
    return images, objects


def _is_image(word: Path, *, last: bool) -> bool:
    if last:
        return word.suffix.lower() in SUFFIXES
    return word.exists() or word.name != str(word) or bool(word.suffix)


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the files that are named, and the images of the folders that are named, by name."""
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"no such file or folder: {path}")
        if not path.is_dir():
            yield path
            continue
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        if not files:
            raise ValueError(f"the folder {path} has no image ({', '.join(SUFFIXES)})")
        yield from files


def _said_by_recipes(files: Sequence[Path]) -> tuple[dict[str, None], set[str]]:
    """Return objects and judges of images of countgen; none if an image of another source is among them."""
    objects: dict[str, None] = {}
    judges = set()
    try:
        for file in files:
            recipe = fields_of(read_recipe(file))
            objects |= dict.fromkeys(target.object_name for target in recipe.targets)
            judges |= {recipe.judge} if recipe.judge else set()
    except (OSError, ValueError):
        return {}, set()
    return objects, judges


def _judge_of(judges: set[str]) -> str | None:
    """Return the judge of the images, if they have one that countgen chooses: a recipe must not name a file."""
    if len(judges) > 1 or not {*miniature.DETECTORS, *FACTS}.issuperset(judges):
        named = printable(", ".join(sorted(judges)), 200)
        raise ValueError(f"these images were judged by {named}; name the detector that counts with --critic")
    return next(iter(judges), None)


def _critic(command: Count, judges: set[str], objects: Sequence[str], device: str) -> Critic:
    """Load the detector that is named, the judge of the images, or the default for what is counted."""
    name = command.critic or _judge_of(judges) or counter(objects)
    announce_downloads(check_detectors([name]), shown=command.text)
    with nullcontext() if name == COCO_COUNTER else loading(name, shown=command.text):
        critic = load_critic(name, device, trust_checkpoint=command.trust_checkpoint)
    critic.check_distinct(objects)
    return critic


def _counted(critic: Critic, file: Path, objects: Sequence[str], device: str, boxes: Path | None) -> dict[str, Any]:
    """Return the record of one image, its boxes drawn into the file `boxes`."""
    batch = to_batch(file).to(device)
    if not critic.detects:
        counts = dict(zip(objects, critic.counts(batch, objects)[0].tolist(), strict=True))
        if silent := [name for name, count in counts.items() if count == NO_ANSWER]:
            raise ValueError(f"{critic.name} gave no whole number of {', '.join(silent)}")
        return {"image": str(file), "counts": counts}
    (detections,) = critic.detect(batch, objects)
    counts = {detected.object_name: len(detected) for detected in detections}
    record: dict[str, Any] = {"image": str(file), "counts": counts, "detections": boxes_of(detections)}
    if boxes is not None:
        drawn = draw_detections(batch[0].cpu(), detections, counted_in_words(counts))
        record["boxes"] = str(save_png(drawn, boxes))
    return record


def _copied(file: Path, folder: Path) -> Path:
    """Copy a file into a folder under a free name, with its times."""
    (copy,) = free_paths(folder, file.stem, (file.suffix,))
    write_atomically(file.read_bytes(), copy, overwrite=False)
    shutil.copystat(file, copy)
    return copy


def _report(command: Count, record: dict[str, Any]) -> None:
    """Print one image's result, except as JSON."""
    if command.text:
        counts = f"NOT READ: {record['error']}" if "error" in record else counted_in_words(record["counts"])
        sign = {True: "+ ", False: "- ", None: ""}[record.get("matches")]
        print(fitted(f"{sign}{record['image']}: {counts}"))
        for written in ("boxes", "copy"):
            if written in record:
                print(fitted(" ", path=record[written]))
    elif "error" in record:
        print(printable(f"countgen: {record['image']}: {record['error']}"), file=sys.stderr)
    elif command.listed and record["matches"]:
        print(printable(record["image"]))
    elif command.csv:
        for row in record["counts"].items():
            _write_csv((record["image"], *row, *([str(record["matches"]).lower()] if command.expect else [])))


def _write_csv(row: Sequence[Any]) -> None:
    csv.writer(sys.stdout, lineterminator="\n").writerow(cell(str(value)) for value in row)
