"""`countgen dataset`: annotated images whose counts are right; the same command continues after an interruption."""

import json
import time
from functools import partial
from typing import Any

import countgen
from countgen.app.arguments import Dataset
from countgen.app.exit_codes import NOT_REACHED, OK
from countgen.app.options import given, names
from countgen.app.terminal import fitted
from countgen.datasets import Dataset as Images
from countgen.datasets import Plan, read_plan
from countgen.files.printable import printable
from countgen.files.schema import converted
from countgen.progress import duration, progress_line
from countgen.prompts.plurals import counted_in_words

PLAN_OPTIONS = ("object", "count", "per_cell", "template", "negative", "split", "sure", "max_seeds", "seed")


def run(command: Dataset) -> int:
    """Generate the set, or print what it is expected to take."""
    plan = _plan(command)
    load = partial(_load, command, plan.classes)
    images = countgen.dataset(plan, load, command.out, workers=command.workers, keep_rejected=command.keep_rejected)
    if command.dry_run:
        return _dry_run(command, images)
    total, done, started = plan.number_of_images, 0, time.monotonic()
    with progress_line(f"{total} images", shown=command.text) as show:
        for sample in images:
            done += 1
            finished, cell = sum(progress.images for progress in images.cells), images.cells[sample.cell]
            rate = done / (time.monotonic() - started)
            show(
                f"{finished} of {total} images, {duration((total - finished) / rate)} left, {3600 * rate:.0f} an hour; "
                f"{counted_in_words(cell.cell.counts)}: {cell.images} of {cell.cell.group.images}, {cell.seeds} seeds",
                finished / total,
            )
    filled, seeds = (sum(getattr(progress, name) for progress in images.cells) for name in ("images", "seeds"))
    summary = {"folder": str(command.out), "images": filled, "asked": total, "seeds": seeds}
    short = [
        {"cell": one.cell.prompt, "images": one.images, "asked": one.cell.group.images, "seeds": one.seeds}
        for one in images.short
    ]
    if command.json:
        print(json.dumps({**summary, "short": short}))
    elif not command.quiet:
        print(fitted(f"{filled} of {total} images from {seeds} seeds; the card is", path=f"{command.out}/README.md"))
    for row in short if not command.json else ():
        print(fitted(f"short: {row['cell']}: {row['images']} of {row['asked']} images from {row['seeds']} seeds"))
    return NOT_REACHED if short else OK


def _load(command: Dataset, classes: tuple[str, ...]) -> countgen.Models:
    """Load the models, in whichever process."""
    return command.load(classes, **command.detector_options)


def _plan(command: Dataset) -> Plan:
    """Return the plan in the file, or of the options."""
    if command.plan is not None:
        if others := [name for name in PLAN_OPTIONS if getattr(command, name) is not None]:
            raise ValueError(f"--plan says everything; leave --{others[0].replace('_', '-')} away, or write it there")
        return read_plan(command.plan)
    if not command.object:
        raise ValueError("give --object NAME, such as --object apple --count 1-10, or --plan FILE")
    shared = given(templates=command.template, images=command.per_cell, sure=command.sure, max_seeds=command.max_seeds)
    groups: list[dict[str, Any]] = []
    for negative, texts in ((False, command.object), (True, command.negative or ())):
        for text in texts:
            objects = dict.fromkeys(names([text.replace("+", ",")]), command.count or "1-10")
            groups.append({"objects": objects, "negative": negative, **shared})
    try:
        splits = {name: float(share) for name, _, share in (split.partition("=") for split in command.split or ())}
    except ValueError as error:
        raise ValueError("a split is NAME=FRACTION, such as --split train=0.8 --split val=0.2") from error
    return converted({"groups": groups, **given(splits=splits or None, seed=command.seed)}, Plan)


def _dry_run(command: Dataset, images: Images) -> int:
    """Print what each cell is expected to take, by one attempt of each; nothing is written."""
    rows: list[dict[str, Any]] = []
    started = time.monotonic()
    for attempt in images.probe():
        now = time.monotonic()
        cell, seconds = images.cells[attempt.cell].cell, now - started
        asked = cell.group.images
        seeds = asked * attempt.seeds * (1 if not attempt.reason else 2)
        rows.append(
            {
                "cell": cell.prompt,
                "images": asked,
                "seeds": seeds,
                "seconds": round(seeds / attempt.seeds * seconds, 1),
                "megabytes": round(asked * 3 * attempt.width * attempt.height / 2e6, 1),
            }
        )
        started = now
    total = {"cell": "all", **{key: round(sum(row[key] for row in rows), 1) for key in list(rows[0])[1:]}}
    if command.json:
        print(json.dumps({"cells": rows, "all": total}))
        return OK
    for row in [*rows, total]:
        expected = f"about {row['seeds']} seeds, {duration(row['seconds'])}, {row['megabytes']} MB"
        print(printable(f"{row['cell']}: {row['images']} images, {expected}"))
    return OK
