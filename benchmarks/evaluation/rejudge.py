"""Let further judges count the images of a finished run: `countgen eval --rejudge RUN --judge NAME`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from countgen.benchmarks.evaluation.json_lines import LineFile
from countgen.benchmarks.evaluation.judgements import JUDGEMENTS, Judgement, read_judgements
from countgen.benchmarks.evaluation.judges import answered, judged, rounded_boxes
from countgen.benchmarks.evaluation.plan import steering
from countgen.benchmarks.evaluation.records import Record, read_run
from countgen.benchmarks.evaluation.run_folder import locked_run
from countgen.critics import Critic
from countgen.critics.detections import mean_score
from countgen.critics.validation import to_batch
from countgen.errors import RecipeError
from countgen.files.folder import readable_path
from countgen.files.image_file import open_image
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
    _check(folder, done, judges, batch_size)
    torch.set_num_threads(threads)
    summary = Rejudged(images=len(done))
    with locked_run(folder):
        for name in judges:
            mine = {one.key: one for one in read_judgements(folder) if one.judge == name}
            left = [record for record in done if record.key not in mine]
            if left:
                judge = load_critic(name, device, trust_checkpoint=trust_checkpoint)
                _check_objects(judge, left)
                fresh = _judgements(folder, left, name, judge, device, batch_size, summary.unread)
                del judge  # so that it is not in memory while the next one is loaded
                fresh = counted_progress(fresh, len(done), done=len(done) - len(left), shown=not quiet)
                with LineFile(folder, JUDGEMENTS) as file:
                    for one in fresh:
                        file.append(one.to_line())
                        mine[one.key] = one
            known = [mine[record.key] for record in done if record.key in mine]
            summary.judged[name] = len(known)
            summary.abstained[name] = sum(one.counts is None for one in known)
    return summary


def _object_names(record: Record) -> list[str]:
    return [target.object_name for target in record.targets]


def _check(folder: Path, records: Sequence[Record], judges: Sequence[str], batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, got {batch_size}")
    if not records:
        raise ValueError(f"{folder} has no finished image to judge")
    if not judges or len(set(judges)) < len(judges):
        raise ValueError(f"name at least one judge, and each once; got {', '.join(judges) or 'none'}")
    for name in judges:
        if any(name in record.judges for record in records):
            raise ValueError(f"{name} judged {folder} while it ran; name other judges")
        if any(not steering(record.critics).isdisjoint(parts_of(name)) for record in records):
            raise ValueError(
                f"{name} steered the images of {folder}; a judge must be a detector that nothing optimises"
            )
    check_detectors(judges)


def _check_objects(judge: Critic, records: Sequence[Record]) -> None:
    """Refuse objects that are no class of the judge, or two of one class, before the first image."""
    for names in dict.fromkeys(tuple(_object_names(record)) for record in records):
        judge.check_distinct(names)


def _judgements(
    folder: Path,
    records: Sequence[Record],
    name: str,
    judge: Critic,
    device: str,
    batch_size: int,
    unread: dict[str, str],
) -> Iterator[Judgement]:
    """Yield the result for each image that can be read, and note the others in `unread`."""
    batch: list[tuple[Record, Tensor]] = []
    kind: object = None
    # Images of the same objects can share a batch.
    for record in sorted(records, key=_object_names):
        try:
            image = _image(folder, record)
        except (OSError, ValueError) as error:
            unread[record.image or record.key] = str(error)
            continue
        mine = (image.shape, _object_names(record))
        if batch and (mine != kind or len(batch) == batch_size):
            yield from _of_batch(batch, name, judge, device)
            batch = []
        kind = mine
        batch.append((record, image))
    if batch:
        yield from _of_batch(batch, name, judge, device)


def _image(folder: Path, record: Record) -> Tensor:
    """Read a record's image, RGB float (3, H, W) in [0, 1].

    Raises:
        OSError, ValueError: it is missing, damaged, outside the folder, or the image of another run.
    """
    path = readable_path(folder, record.image or "")
    if path is None:
        raise FileNotFoundError(f"{record.image} is missing, or outside {folder}")
    _check_recipe(path, record)
    return to_batch(open_image(path))[0]


def _check_recipe(path: Path, record: Record) -> None:
    """Refuse an image whose recipe, where it has one, says that it is of another case than its record."""
    try:
        recipe = read_recipe(path)
    except RecipeError:
        return
    mine: dict[str, object] = {"seed": record.seed, "targets": [asdict(target) for target in record.targets]}
    if not record.critics:  # others may have reworded the prompt
        mine["prompt"] = record.prompt
    for name, value in mine.items():
        if (found := recipe.get(name, value)) != value:
            raise ValueError(f"{path} is an image of another run: its recipe has {name} {found}, its record {value}")


def _of_batch(batch: Sequence[tuple[Record, Tensor]], name: str, judge: Critic, device: str) -> Iterator[Judgement]:
    images = torch.stack([image for _, image in batch]).to(device)
    names = _object_names(batch[0][0])
    for (record, _), (counts, detections) in zip(batch, judged(judge, images, names), strict=True):
        confidence = round(mean_score(detections), 4)
        yield Judgement(record.key, name, answered(counts), confidence, rounded_boxes(detections))
