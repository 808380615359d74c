"""`countgen count`: how many objects are in images."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countgen.app.exit_codes import NOT_REACHED, OK
from countgen.app.loading import available_device
from countgen.app.terminal import fitted
from countgen.files.spreadsheet import cell

if TYPE_CHECKING:
    from countgen.critics import Critic, Detections

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""File name endings of the images in a folder."""
_EMBEDDED = "nanodet"
COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#000075")


def add_parser(commands: Any) -> None:
    """Add the command to the sub-parsers."""
    parser = commands.add_parser(
        "count",
        help="count objects in images",
        description="Count objects in images, such as 'countgen count photo.jpg person,bus'. Exit code 1: an image "
        "could not be read; the others are counted.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="a file, or a folder of images")
    parser.add_argument("objects", metavar="OBJECT", help="what to count; several with commas or spaces")
    parser.add_argument(
        "--critic", metavar="NAME", help="the detector (nanodet for COCO's classes, otherwise owl:owlv2-base)"
    )
    parser.add_argument(
        "--boxes", type=Path, metavar="OUT", help="draw the boxes: a .png for one image, a folder for several"
    )
    parser.add_argument(
        "--trust-checkpoint", action="store_true", help="let code in a .pt of --critic run, with your rights"
    )
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (CUDA where there is one)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object, boxes and scores included")
    form.add_argument("--csv", action="store_true", help="print a table with commas: image, object, count")


def run(options: argparse.Namespace) -> int:
    """Count, report and return the exit code: 1 where an image could not be read.

    Raises:
        ValueError, OSError: bad input, found before the detector is loaded wherever that is possible.
    """
    images, words = _divided(options.images, options.objects)
    names = [name.strip() for word in words for name in word.split(",") if name.strip()]
    if not names:
        raise ValueError(f"no object is named in {options.objects!r}; write 'apple', or 'apple,dog' for several")
    files = list(dict.fromkeys(_files(images)))
    several = len(files) > 1
    if options.boxes:
        _check_boxes(options.boxes, several=several)
    critic = _critic(options, names)
    if options.boxes and not critic.detects:
        raise ValueError(f"{critic.name} counts without boxes; leave --boxes out, or give another --critic")
    records, unread = [], 0
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if options.csv:
        writer.writerow(("image", "object", "count"))
    for file in files:
        try:
            record = _counted(critic, file, names, options.boxes, several=several)
        except (OSError, ValueError) as error:
            unread += 1
            record = {"image": str(file), "error": " ".join(str(error).split())}
        records.append(record)
        if options.csv:
            writer.writerows((cell(record["image"]), cell(name), n) for name, n in record.get("counts", {}).items())
        if not options.json and not options.csv:
            _report(record)
        elif "error" in record:
            print(f"countgen: {_shown(record['image'])}: {_shown(record['error'])}", file=sys.stderr)
    total = {name: sum(record["counts"][name] for record in records if "counts" in record) for name in names}
    if options.json:
        print(json.dumps({"critic": critic.name, "images": records, "total": total, "unread": unread}))
    elif several and not options.csv:
        print(fitted(f"together: {_said(total)} in {len(files) - unread} images, by {critic.name}"))
    return NOT_REACHED if unread else OK


def _check_boxes(out: Path, *, several: bool) -> None:
    """Refuse a place that the drawn boxes cannot be written to.

    Raises:
        ValueError, OSError: another file than a .png for one image, a .png for several, or it cannot be written.
    """
    from countgen.images import check_writable

    if (out.suffix.lower() == ".png") == several:
        wanted = "be a folder for several images" if several else "end in .png for one image"
        raise ValueError(f"--boxes {out} must {wanted}")
    check_writable(out if several else out.parent)


def _divided(paths: Sequence[Path], last: str) -> tuple[list[Path], list[str]]:
    """Return images and objects of a command line whose last word is an object, and words before it may be."""
    images, words = list(paths), [last]
    while len(images) > 1 and not images[-1].exists() and images[-1].name == str(images[-1]) and not images[-1].suffix:
        words.insert(0, str(images.pop()))
    return images, words


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the files that are named, and the images of the folders that are named, by name.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: a folder without images.
    """
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"no such file or folder: {path}")
        if not path.is_dir():
            yield path
            continue
        found = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        if not found:
            raise ValueError(f"the folder {path} holds no image ({', '.join(SUFFIXES)})")
        yield from found


def _critic(options: argparse.Namespace, names: Sequence[str]) -> Critic:
    """Load the detector that is named, or the default for what is counted.

    Raises:
        ValueError, OSError: an unknown detector, missing files, or an object that it does not know.
    """
    from countgen.detector_choice import OPEN_VOCABULARY, in_coco
    from countgen.models import check_detectors, load_critic
    from countgen.progress import loading

    name = options.critic or (_EMBEDDED if all(map(in_coco, names)) else OPEN_VOCABULARY[0][0])
    device = available_device(options.device)
    missing = check_detectors([name])
    if not options.json and not options.csv:
        for one in missing:
            print(fitted(f"will be downloaded: {_shown(str(one))}"))
    embedded = name == _EMBEDDED  # loads quickly, without diffusers and transformers, whose import takes longer
    with nullcontext() if embedded else loading(name, shown=not (options.json or options.csv)):
        critic = load_critic(name, device, trust_checkpoint=options.trust_checkpoint)
    critic.check_distinct(names)
    return critic


def _counted(critic: Critic, file: Path, names: Sequence[str], boxes: Path | None, *, several: bool) -> dict[str, Any]:
    """Return the record of one image, its boxes drawn where that is asked for."""
    from countgen.critics import NO_ANSWER
    from countgen.critics.validation import to_batch

    batch = to_batch(file).to(next(_parameters(critic)).device)
    if not critic.detects:
        counts = critic.counts(batch, names)[0].tolist()
        silent = [name for name, count in zip(names, counts, strict=True) if count == NO_ANSWER]
        if silent:
            raise ValueError(f"{critic.name} gave no whole number of {', '.join(silent)}")
        return {"image": str(file), "counts": dict(zip(names, counts, strict=True))}
    (found,) = critic.detect(batch, names)
    record: dict[str, Any] = {
        "image": str(file),
        "counts": {one.object_name: len(one) for one in found},
        "detections": {
            one.object_name: [
                {"box": [round(value, 1) for value in box], "score": round(score, 4)}
                for box, score in zip(one.boxes.tolist(), one.scores.tolist(), strict=True)
            ]
            for one in found
        },
    }
    if boxes is not None:
        place = boxes / f"{file.stem}-boxes.png" if several else boxes
        record["boxes"] = str(_drawn(batch[0].cpu(), found, record["counts"], place))
    return record


def _drawn(image: Any, found: Sequence[Detections], counts: dict[str, int], place: Path) -> Path:
    from countgen.images import draw_boxes, save_png

    for number, one in enumerate(found):
        image = draw_boxes(image, one.boxes.cpu(), _said(counts), colour=COLOURS[number % len(COLOURS)])
    return save_png(image, place)


def _parameters(critic: Critic) -> Iterator[Any]:
    """Yield the weights of a critic's network, or a tensor on the CPU where it has none."""
    import torch

    for part in vars(critic).values():
        if isinstance(part, torch.nn.Module):
            yield from part.parameters()
    yield torch.zeros(1)


def _report(record: dict[str, Any]) -> None:
    said = _said(record["counts"]) if "counts" in record else f"NOT READ: {_shown(record['error'])}"
    print(fitted(f"{_shown(record['image'])}: {said}"))
    if "boxes" in record:
        print(f"  {_shown(record['boxes'])}")


def _said(counts: dict[str, int]) -> str:
    from countgen.critics.vocabulary import singular
    from countgen.prompts.plurals import counted

    return ", ".join(f"{count} {counted(singular(name), count)}" for name, count in counts.items())


def _shown(text: str) -> str:
    from countgen.files.printable import printable

    return printable(text, 300)
