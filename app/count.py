"""`countgen count`: how many objects are in images."""

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from countgen import miniature
from countgen.app.arguments import Count
from countgen.app.exit_codes import NOT_REACHED, OK
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
from countgen.images import check_writable, draw_detections, read_recipe, save_png
from countgen.models import check_detectors, load_critic
from countgen.progress import loading
from countgen.prompts.plurals import counted_in_words
from countgen.recipe_fields import Recipe, fields_of


def run(command: Count) -> int:
    """Count in each image, and print what is counted."""
    if command.json and command.csv:
        raise ValueError("give --json or --csv, not both")
    images, words = _divided(command.words)
    files = list(dict.fromkeys(_files(images)))
    recipes = _recipes(files)
    generated = dict.fromkeys(target.object_name for recipe in recipes for target in recipe.targets)
    objects = names(words) if words else tuple(generated)
    if not objects:
        given = f"{' '.join(words)!r} names no object" if words else "no recipe says what to count"
        raise ValueError(f"{given}; write 'apple', or 'apple,dog' for several, after the images")
    several = len(files) > 1
    if command.boxes:
        if (command.boxes.suffix.lower() == ".png") == several:
            wanted = "be a folder for several images" if several else "end in .png for one image"
            raise ValueError(f"--boxes {command.boxes} must {wanted}")
        check_writable(command.boxes if several else command.boxes.parent)
    device = command.available_device()
    critic = _critic(command, recipes, objects, device)
    if command.boxes and not critic.detects:
        raise ValueError(f"{critic.name} counts without boxes; leave --boxes out, or give another --critic")
    if command.csv:
        _write_csv(("image", "object", "count"))
    records = []
    for file in files:
        boxes = command.boxes / f"{file.stem}-boxes.png" if command.boxes and several else command.boxes
        try:
            record = _counted(critic, file, objects, device, boxes)
        except (OSError, ValueError) as error:
            record = {"image": str(file), "error": " ".join(str(error).split())}
        _report(command, record)
        records.append(record)
    unread = sum("error" in record for record in records)
    total = {name: sum(record["counts"][name] for record in records if "counts" in record) for name in objects}
    if command.json:
        print(json.dumps({"critic": critic.name, "images": records, "total": total, "unread": unread}))
    elif command.text and several:
        print(fitted(f"together: {counted_in_words(total)} in {len(files) - unread} images, by {critic.name}"))
    return NOT_REACHED if unread else OK


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


def _recipes(files: Sequence[Path]) -> list[Recipe]:
    """Return the recipes of images of countgen; none if an image of another source is among them."""
    try:
        return [fields_of(read_recipe(file)) for file in files]
    except (OSError, ValueError):
        return []


def _judge_of(recipes: Sequence[Recipe]) -> str | None:
    """Return the judge of the images, if they have one that countgen chooses: a recipe must not name a file."""
    judges = sorted({recipe.judge for recipe in recipes if recipe.judge})
    if len(judges) > 1 or not {*miniature.DETECTORS, *FACTS}.issuperset(judges):
        named = printable(", ".join(judges), 200)
        raise ValueError(f"these images were judged by {named}; name the detector that counts with --critic")
    return next(iter(judges), None)


def _critic(command: Count, recipes: Sequence[Recipe], objects: Sequence[str], device: str) -> Critic:
    """Load the detector that is named, the judge of the images, or the default for what is counted."""
    name = command.critic or _judge_of(recipes) or counter(objects)
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


def _report(command: Count, record: dict[str, Any]) -> None:
    """Print one image's result; as JSON, all are printed together at the end."""
    if command.text:
        counts = f"NOT READ: {record['error']}" if "error" in record else counted_in_words(record["counts"])
        print(fitted(f"{record['image']}: {counts}"))
        if "boxes" in record:
            print(fitted(" ", path=record["boxes"]))
    elif "error" in record:
        print(printable(f"countgen: {record['image']}: {record['error']}"), file=sys.stderr)
    elif command.csv:
        for row in record["counts"].items():
            _write_csv((record["image"], *row))


def _write_csv(row: Sequence[Any]) -> None:
    csv.writer(sys.stdout, lineterminator="\n").writerow(cell(str(value)) for value in row)
