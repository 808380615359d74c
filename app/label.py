"""`countgen label`: blind human labels for the images of an evaluation, by spreadsheet."""

import json
import shlex
from collections import Counter
from dataclasses import asdict
from typing import Any

from countgen.app.arguments import Label
from countgen.app.exit_codes import OK
from countgen.app.terminal import fitted
from countgen.benchmarks.evaluation.label_tables import import_labels, write_sheet
from countgen.benchmarks.evaluation.labels import questions, read_labels
from countgen.files.printable import printable


def run(command: Label) -> int:
    """Write or read labels, or print how many there are."""
    if sum(path is not None for path in (command.out, command.read, command.import_from)) > 1:
        raise ValueError("give one of --out, --read and --import")
    labeller = command.labeller or ""
    if (command.out or command.read) and not labeller:
        raise ValueError("--out and --read need --labeller NAME")
    if command.out:
        images = write_sheet(command.folder, command.out, labeller, seed=command.seed, limit=command.number)
        back = ["countgen", "label", command.folder, "--read", str(command.out), "--labeller", labeller]
        record: dict[str, Any] = {"sheet": str(command.out), "images": images}
        text = [
            fitted(f"{command.out}: {images} images, with paths relative to {command.folder}"),
            "fill in the column 'count', then:",
            printable(shlex.join(back)),  # on one line, so that it can be copied
        ]
    elif command.read:
        record = {"saved": import_labels(command.folder, command.read, labeller, is_sheet=True).saved}
        text = [f"{record['saved']} labels saved"]
    elif command.import_from:
        imported = import_labels(command.folder, command.import_from, labeller)
        record = asdict(imported)
        text = [f"{imported.saved} labels saved, {imported.known} were there before"]
        if imported.unknown_images:
            shown = ", ".join(printable(name, 60) for name in imported.unknown_images[:3])
            text.append(f"not in {command.folder}: {len(imported.unknown_images)} images, such as {shown}")
        text.append(f"rows without a whole number: {imported.no_number}; images left out for it: {imported.incomplete}")
        text = list(map(fitted, text))
    else:
        finished = {question.key for question in questions(command.folder)}
        labelled = Counter(label.labeller for label in read_labels(command.folder) if label.key in finished)
        record = {"finished": len(finished), "labelled": dict(sorted(labelled.items()))}
        text = [f"{len(finished)} finished images"]
        text += [f"  {printable(name, 60)}: {images} labelled" for name, images in record["labelled"].items()]
    print(json.dumps(record) if command.json else "\n".join(text))
    return OK
