"""`countgen count`: how many objects are in images."""

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer import Argument

from countgen.app.exit_codes import NOT_REACHED, OK
from countgen.app.options import Device, Json, Trust, announce_downloads, flag, names, option
from countgen.app.terminal import fitted
from countgen.files.printable import printable

if TYPE_CHECKING:
    from countgen.critics import Critic, Detections

_EMBEDDED = "nanodet"
COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#000075")


@dataclass(frozen=True, kw_only=True)
class Count(Json, Trust, Device):
    """Count objects in images, such as 'countgen count photo.jpg person,bus'.

    The exit code is 1 if an image cannot be read; the others are counted.
    """

    words: list[str] = Argument(
        ...,
        metavar="IMAGE... OBJECT...",
        help="files or folders of images, and after them what to count; several objects with commas or spaces",
    )
    critic: str | None = option(None, "NAME", "the detector", "nanodet for COCO's classes, otherwise owl:owlv2-base")
    boxes: Path | None = option(None, "OUT", "draw the boxes: a .png for one image, a folder for several")
    csv: bool = flag("csv", "print a table with commas: image, object, count")

    @property
    def text(self) -> bool:
        """Whether the command prints text."""
        return not (self.json or self.csv)

    def run(self) -> int:
        if self.json and self.csv:
            raise ValueError("give --json or --csv, not both")
        images, words = _divided(self.words)
        objects = names(words)
        if not objects:
            raise ValueError(f"{' '.join(words)!r} names no object; write 'apple', or 'apple,dog' for several")
        files = list(dict.fromkeys(_files(images)))
        if self.boxes:
            _check_boxes(self.boxes, several=len(files) > 1)
        device = self.available_device()
        critic = self._critic(objects, device)
        if self.boxes and not critic.detects:
            raise ValueError(f"{critic.name} counts without boxes; leave --boxes out, or give another --critic")
        if self.csv:
            _write_csv(("image", "object", "count"))
        records = []
        for file in files:
            boxes = self.boxes / f"{file.stem}-boxes.png" if self.boxes and len(files) > 1 else self.boxes
            try:
                record = _counted(critic, file, objects, device, boxes)
            except (OSError, ValueError) as error:
                record = {"image": str(file), "error": " ".join(str(error).split())}
            self._report(record)
            records.append(record)
        unread = sum("error" in record for record in records)
        total = {name: sum(record["counts"][name] for record in records if "counts" in record) for name in objects}
        if self.json:
            print(json.dumps({"critic": critic.name, "images": records, "total": total, "unread": unread}))
        elif self.text and len(files) > 1:
            print(fitted(f"together: {_in_words(total)} in {len(files) - unread} images, by {critic.name}"))
        return NOT_REACHED if unread else OK

    def _critic(self, objects: Sequence[str], device: str) -> "Critic":
        """Load the detector that is named, or the default for what is counted.

        Raises:
            ValueError, OSError: an unknown detector, missing files, or an object that it does not know.
        """
        from countgen.detector_choice import OPEN_VOCABULARY, in_coco
        from countgen.models import check_detectors, load_critic
        from countgen.progress import loading

        name = self.critic or (_EMBEDDED if all(map(in_coco, objects)) else OPEN_VOCABULARY[0][0])
        announce_downloads(check_detectors([name]), shown=self.text)
        embedded = name == _EMBEDDED  # loads quickly, without diffusers and transformers, whose import takes longer
        with nullcontext() if embedded else loading(name, shown=self.text):
            critic = load_critic(name, device, trust_checkpoint=self.trust_checkpoint)
        critic.check_distinct(objects)
        return critic

    def _report(self, record: dict[str, Any]) -> None:
        """Print one image's result; as JSON, all are printed together at the end."""
        error = f"{record['image']}: {record['error']}" if "error" in record else ""
        if error and not self.text:
            print(f"countgen: {printable(error)}", file=sys.stderr)
        elif self.csv:
            for row in record["counts"].items():
                _write_csv((record["image"], *row))
        elif self.text:
            counts = f"NOT READ: {record['error']}" if error else _in_words(record["counts"])
            print(fitted(f"{record['image']}: {counts}"))
            if "boxes" in record:
                print(fitted(" ", path=record["boxes"]))


def _write_csv(row: Sequence[Any]) -> None:
    from countgen.files.spreadsheet import cell

    csv.writer(sys.stdout, lineterminator="\n").writerow(cell(str(value)) for value in row)


def _check_boxes(out: Path, *, several: bool) -> None:
    """Raise if the boxes cannot be drawn there.

    Raises:
        ValueError, OSError: another file than a .png for one image, a .png for several, or it cannot be written.
    """
    from countgen.images import check_writable

    if (out.suffix.lower() == ".png") == several:
        wanted = "be a folder for several images" if several else "end in .png for one image"
        raise ValueError(f"--boxes {out} must {wanted}")
    check_writable(out if several else out.parent)


def _divided(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Return images and objects of a command line whose last word is an object; words before it may be objects too."""
    if len(words) < 2:
        raise ValueError(f"give images and what to count, such as 'photo.jpg person'; got {' '.join(words)!r}")
    images, objects = list(map(Path, words[:-1])), [words[-1]]
    while len(images) > 1 and not images[-1].exists() and images[-1].name == str(images[-1]) and not images[-1].suffix:
        objects.insert(0, str(images.pop()))
    return images, objects


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the files that are named, and the images of the folders that are named, by name.

    Raises:
        FileNotFoundError: a file or folder is missing.
        ValueError: a folder without images.
    """
    from countgen.files.image_file import SUFFIXES

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


def _counted(critic: "Critic", file: Path, objects: Sequence[str], device: str, boxes: Path | None) -> dict[str, Any]:
    """Return the record of one image, its boxes drawn into the file `boxes`."""
    from countgen.critics import NO_ANSWER
    from countgen.critics.validation import to_batch

    batch = to_batch(file).to(device)
    if not critic.detects:
        counts = critic.counts(batch, objects)[0].tolist()
        silent = [name for name, count in zip(objects, counts, strict=True) if count == NO_ANSWER]
        if silent:
            raise ValueError(f"{critic.name} gave no whole number of {', '.join(silent)}")
        return {"image": str(file), "counts": dict(zip(objects, counts, strict=True))}
    (detections,) = critic.detect(batch, objects)
    record: dict[str, Any] = {
        "image": str(file),
        "counts": {detected.object_name: len(detected) for detected in detections},
        "detections": {
            detected.object_name: [
                {"box": [round(value, 1) for value in box], "score": round(score, 4)}
                for box, score in zip(detected.boxes.tolist(), detected.scores.tolist(), strict=True)
            ]
            for detected in detections
        },
    }
    if boxes is not None:
        record["boxes"] = str(_drawn(batch[0].cpu(), detections, record["counts"], boxes))
    return record


def _drawn(image: Any, detections: "Sequence[Detections]", counts: dict[str, int], place: Path) -> Path:
    from countgen.images import draw_boxes, save_png

    for number, detected in enumerate(detections):
        image = draw_boxes(image, detected.boxes.cpu(), _in_words(counts), colour=COLOURS[number % len(COLOURS)])
    return save_png(image, place)


def _in_words(counts: dict[str, int]) -> str:
    from countgen.critics.vocabulary import singular
    from countgen.prompts.plurals import counted

    return ", ".join(f"{count} {counted(singular(name), count)}" for name, count in counts.items())
