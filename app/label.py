"""`countgen label`: blind human labels for the images of an evaluation, by spreadsheet."""

import json
import shlex
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from typer import Argument, Option

from countgen.app.exit_codes import OK
from countgen.app.options import MAX_SEED, Json, bounded, option
from countgen.app.terminal import fitted
from countgen.files.printable import printable


@dataclass(frozen=True, kw_only=True)
class Label(Json):
    """Collect human counts for the images of an evaluation.

    --out writes a sheet of images in shuffled order and of the objects to count, without the target counts; fill in the
    column 'count', '-' for what cannot be counted, and save the sheet with --read. Without either, print how many
    images each person has labelled. The demo has a page for this.
    """

    folder: str = Argument(..., metavar="RUN", help="a folder that countgen eval wrote")
    out: Path | None = option(None, "FILE.csv", "write the images this person has not labelled")
    read: Path | None = option(None, "FILE.csv", "save the counts of a filled-in sheet")
    import_from: Path | None = Option(
        None,
        "--import",
        metavar="FILE.csv",
        help="save counts from elsewhere: columns image, object, count; or GeckoNum's annotations",
    )
    labeller: str | None = option(None, "NAME", "name of the person; --import also reads the column labeller")
    number: int | None = bounded(None, "images in the sheet", if_none="all")
    seed: int = bounded(0, "seed of the order", least=0, most=MAX_SEED)

    def run(self) -> int:
        from countgen.benchmarks.evaluation.label_tables import import_labels, write_sheet
        from countgen.benchmarks.evaluation.labels import questions, read_labels

        actions = sum(path is not None for path in (self.out, self.read, self.import_from))
        if actions > 1:
            raise ValueError("give one of --out, --read and --import")
        labeller = self.labeller or ""
        if (self.out or self.read) and not labeller:
            raise ValueError("--out and --read need --labeller NAME")
        if self.out:
            images = write_sheet(self.folder, self.out, labeller, seed=self.seed, limit=self.number)
            back = ["countgen", "label", self.folder, "--read", str(self.out), "--labeller", labeller]
            record: dict[str, Any] = {"sheet": str(self.out), "images": images}
            text = [
                fitted(f"{self.out}: {images} images, with paths relative to {self.folder}"),
                "fill in the column 'count', then:",
                printable(shlex.join(back)),  # on one line, so that it can be copied
            ]
        elif self.read:
            record = {"saved": import_labels(self.folder, self.read, labeller, is_sheet=True).saved}
            text = [f"{record['saved']} labels saved"]
        elif self.import_from:
            imported = import_labels(self.folder, self.import_from, labeller)
            record = asdict(imported)
            text = [f"{imported.saved} labels saved, {imported.known} were there before"]
            if imported.unknown_images:
                shown = ", ".join(printable(name, 60) for name in imported.unknown_images[:3])
                text.append(f"not in {self.folder}: {len(imported.unknown_images)} images, such as {shown}")
            text.append(
                f"rows without a whole number: {imported.no_number}; images left out for it: {imported.incomplete}"
            )
            text = list(map(fitted, text))
        else:
            finished = {question.key for question in questions(self.folder)}
            labelled = Counter(label.labeller for label in read_labels(self.folder) if label.key in finished)
            record = {"finished": len(finished), "labelled": dict(sorted(labelled.items()))}
            text = [f"{len(finished)} finished images"]
            text += [f"  {printable(name, 60)}: {images} labelled" for name, images in record["labelled"].items()]
        print(json.dumps(record) if self.json else "\n".join(text))
        return OK
