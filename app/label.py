"""`countgen label`: blind human labels for the images of an evaluation, by spreadsheet."""

from __future__ import annotations

import argparse
import json
import shlex
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from countgen.app.argument_types import one_seed, positive
from countgen.app.exit_codes import OK
from countgen.app.terminal import fitted


def add_parser(commands: Any) -> None:
    """Add the command to the sub-parsers."""
    parser = commands.add_parser(
        "label",
        help="label the images of an evaluation by hand",
        description="Collect human counts for the images of an evaluation. --out writes a sheet of images in shuffled "
        "order and of the objects to count, without the target counts; fill in the column 'count', '-' for what cannot "
        "be counted, and save the sheet with --read. Without either, print how many images each person has labelled. "
        "The demo has a page for this.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("folder", metavar="RUN", help="a folder that `countgen eval` wrote")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--out", type=Path, metavar="FILE.csv", help="write the images this person has not labelled")
    action.add_argument("--read", type=Path, metavar="FILE.csv", help="save the counts of a filled-in sheet")
    action.add_argument(
        "--import",
        dest="import_from",
        type=Path,
        metavar="FILE.csv",
        help="save counts from elsewhere: columns image, object, count; or GeckoNum's annotations",
    )
    parser.add_argument("--labeller", metavar="NAME", help="name of the person; needed with --out, --read and --import")
    parser.add_argument("--number", type=positive, metavar="N", help="number of images in the sheet (all)")
    parser.add_argument("--seed", type=one_seed, default=0, metavar="N", help="seed of the order (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(options: argparse.Namespace) -> int:
    """Write a sheet, save a sheet, or print the progress; return the exit code.

    Raises:
        ValueError, OSError: the options, the run or the sheet cannot be used.
    """
    from countgen.benchmarks.evaluation.label_import import import_labels
    from countgen.benchmarks.evaluation.label_sheet import read_sheet, write_sheet
    from countgen.benchmarks.evaluation.labels import questions, read_labels
    from countgen.files.printable import printable

    if (options.out or options.read or options.import_from) and options.labeller is None:
        raise ValueError("--out, --read and --import need --labeller NAME")
    if options.out:
        number = write_sheet(options.folder, options.out, options.labeller, seed=options.seed, limit=options.number)
        back = ["countgen", "label", options.folder, "--read", str(options.out), "--labeller", options.labeller]
        record: dict[str, Any] = {"sheet": str(options.out), "images": number}
        text = [
            fitted(f"{options.out}: {number} images, with paths relative to {options.folder}"),
            "fill in the column 'count', then:",
            printable(shlex.join(back)),  # on one line, so that it can be copied
        ]
    elif options.read:
        record = {"saved": len(read_sheet(options.folder, options.read, options.labeller))}
        text = [f"{record['saved']} labels saved"]
    elif options.import_from:
        found = import_labels(options.folder, options.import_from, options.labeller)
        record = asdict(found)
        text = [f"{found.saved} labels saved, {found.known} were there before"]
        if found.unknown_images:
            shown = ", ".join(printable(name, 60) for name in found.unknown_images[:3])
            text.append(fitted(f"not in {options.folder}: {len(found.unknown_images)} images, such as {shown}"))
        text.append(
            fitted(f"rows without a whole number: {found.no_number}; images left out for it: {found.incomplete}")
        )
    else:
        finished = {question.key for question in questions(options.folder)}
        labelled = Counter(label.labeller for label in read_labels(options.folder) if label.key in finished)
        record = {"finished": len(finished), "labelled": dict(sorted(labelled.items()))}
        text = [f"{len(finished)} finished images"]
        text += [f"  {printable(name, 60)}: {number} labelled" for name, number in record["labelled"].items()]
    print(json.dumps(record) if options.json else "\n".join(text))
    return OK
