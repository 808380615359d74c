"""Let further judges count the images of a finished run: `countgen eval --rejudge RUN --judge NAME`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from countgen.benchmarks.evaluation.judgements import JUDGEMENTS, Judgement, read_judgements
from countgen.benchmarks.evaluation.judges import answered, judged, rounded_boxes
from countgen.benchmarks.evaluation.plan import check_names, steering
from countgen.benchmarks.evaluation.records import Record, read_run
from countgen.critics import Critic
from countgen.critics.detections import mean_score
from countgen.critics.validation import to_batch
from countgen.errors import RecipeError
from countgen.files.folder import locked, readable_path
from countgen.files.image_file import open_image
from countgen.files.json_lines import LineFile
from countgen.images import read_recipe
from countgen.models import check_detectors, load_critic, parts_of
from countgen.progress import counted_progress


@dataclass
class Rejudged:
    """What rejudging a run did.

    Attributes:
        images: number of images of the run.
        judged: number of images that each judge has judged, earlier or now.
        abstained: of these, number without an answer.
        unread: reason by image that cannot be judged.
    """

    images: int = 0
    judged: dict[str, int] = field(default_factory=dict)
    abstained: dict[str, int] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)


def rejudge(
    run: str | Path,
    judges: Sequence[str],
    *,
    device: str = "cpu",
    threads: int = 1,
    batch_size: int = 1,
    trust_checkpoint: bool = False,
    quiet: bool = False,
) -> Rejudged:
    """Append the counts of further judges to a run; the same call continues after any end.

    Args:
        run: its folder. The records stay as they are; the counts go into `judgements.jsonl`.
        judges: names of detectors, as `countgen.models.load_critic` reads them.
        device, threads: where judges run.
        batch_size: number of images of one size and the same objects that are judged at once.
        trust_checkpoint: as of `load_critic`.
        quiet: show no progress.

    Raises:
        ValueError: no run, one that is in use, a judge that steered it or judged it already, or one that cannot count
            an object of it.
        OSError: a judge's files are missing, or the folder cannot be written; finished judgements are kept.
    """
    folder = Path(run)
    _, records = read_run(folder)
    done = [record for record in records if record.status == "done" and record.image]
    _check(folder, done, judges)
    torch.set_num_threads(threads)
    summary = Rejudged(images=len(done))
    with locked(folder):
        for name in judges:
            judged_by_key = {given.key: given for given in read_judgements(folder) if given.judge == name}
            left = [record for record in done if record.key not in judged_by_key]
            if left:
                judge = load_critic(name, device, trust_checkpoint=trust_checkpoint)
                for names in dict.fromkeys(tuple(record.wanted) for record in left):
                    judge.check_distinct(names)
                fresh = _judgements(name, judge, _batches(folder, left, batch_size, summary.unread), device)
                del judge  # so that it is not in memory while the next one is loaded
                fresh = counted_progress(fresh, len(done), done=len(done) - len(left), shown=not quiet)
                with LineFile(folder, JUDGEMENTS) as file:
                    for judgement in fresh:
                        file.append(judgement.to_line())
                        judged_by_key[judgement.key] = judgement
            known = [judged_by_key[record.key] for record in done if record.key in judged_by_key]
            summary.judged[name] = len(known)
            summary.abstained[name] = sum(judgement.counts is None for judgement in known)
    return summary


def _check(folder: Path, records: Sequence[Record], judges: Sequence[str]) -> None:
    if not records:
        raise ValueError(f"{folder} has no finished image to judge")
    check_names("judge", judges)
    for name in judges:
        if any(name in record.judges for record in records):
            raise ValueError(f"{name} judged {folder} while it ran; name other judges")
        if any(not steering(record.critics).isdisjoint(parts_of(name)) for record in records):
            raise ValueError(
                f"{name} steered the images of {folder}; a judge must be a detector that nothing optimises"
            )
    check_detectors(judges)


def _batches(
    folder: Path, records: Sequence[Record], batch_size: int, unread: dict[str, str]
) -> Iterator[list[tuple[Record, Tensor]]]:
    """Yield images of one size and the same objects together, and note those that cannot be read in `unread`."""

    def readable() -> Iterator[tuple[Record, Tensor]]:
        for record in sorted(records, key=lambda record: list(record.wanted)):
            try:
                yield record, _image(folder, record)
            except (OSError, ValueError) as error:
                unread[record.image or record.key] = str(error)

    for _, alike in groupby(readable(), key=lambda pair: (pair[1].shape, list(pair[0].wanted))):
        while batch := list(islice(alike, batch_size)):
            yield batch


def _judgements(
    name: str, judge: Critic, batches: Iterable[list[tuple[Record, Tensor]]], device: str
) -> Iterator[Judgement]:
    for batch in batches:
        images = torch.stack([image for _, image in batch]).to(device)
        answers = judged(judge, images, list(batch[0][0].wanted))
        for (record, _), (counts, detections) in zip(batch, answers, strict=True):
            confidence = round(mean_score(detections), 4)
            yield Judgement(record.key, name, answered(counts), confidence, rounded_boxes(detections))


def _image(folder: Path, record: Record) -> Tensor:
    """Read a record's image, RGB float (3, H, W) in [0, 1], if its recipe is not of another image."""
    path = readable_path(folder, record.image or "")
    if path is None:
        raise FileNotFoundError(f"{record.image} is missing, or outside {folder}")
    expected: dict[str, object] = {"seed": record.seed, "targets": [asdict(target) for target in record.targets]}
    if not record.critics:  # others may have reworded the prompt
        expected["prompt"] = record.prompt
    recipe: dict[str, Any] = {}
    with suppress(RecipeError):  # generated by another program
        recipe = read_recipe(path)
    for name, value in expected.items():
        if (given := recipe.get(name, value)) != value:
            raise ValueError(f"{path} is an image of another run: its recipe has {name} {given}, its record {value}")
    return to_batch(open_image(path))[0]
