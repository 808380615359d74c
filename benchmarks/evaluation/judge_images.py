"""Evaluate images from another source: `countgen eval --images mine.csv --out RUN`.

The list names an image for every prompt: a CSV, JSONL or JSON prompt list as `evaluation.suites.load` reads it with a
column or tag `image`, a path relative to the list; or a folder in GenEval's layout (00000/metadata.jsonl,
00000/samples/0000.png), of which the counting prompts are read. Further columns: `method`, `seed` (if it is missing,
the images of one prompt and method are 0, 1, ...), and `seconds` that the image took. The run folder is like those of
other evaluations: the same command continues where it stopped, and the report, the labels and the demo read it.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

from countgen import miniature
from countgen.benchmarks.evaluation.judges import judged, record_fields
from countgen.benchmarks.evaluation.plan import (
    MAX_THREADS,
    Case,
    RunSettings,
    code_version,
    content_digest,
    object_names,
)
from countgen.benchmarks.evaluation.records import IMAGES, Record, counts_of
from countgen.benchmarks.evaluation.run_folder import RunFolder
from countgen.benchmarks.evaluation.suites import Prompt, load
from countgen.benchmarks.evaluation.worker import Outcome, failed
from countgen.critics import Critic
from countgen.critics.validation import to_batch
from countgen.files.image_file import MAX_BYTES, SUFFIXES, open_image
from countgen.files.reading import read_bytes
from countgen.files.schema import decoded
from countgen.models import check_detector, load_critic
from countgen.progress import counted_progress
from countgen.prompts import Target


class GivenImages(RunSettings):
    """Settings of a run of given images: nothing steers, and the backbone may have any name."""

    def __post_init__(self) -> None:
        if not self.judges or len(set(self.judges)) < len(self.judges):
            raise ValueError(f"name at least one judge, and each once; got {', '.join(self.judges) or 'none'}")
        for name in self.judges:
            check_detector(name)
        if not 1 <= self.threads <= MAX_THREADS:
            raise ValueError(f"threads must be from 1 to {MAX_THREADS}, got {self.threads}")


@dataclass(frozen=True)
class Given:
    """An image from another source.

    Attributes:
        case: its prompt, and the key of its record.
        path: of the image.
        seconds: of its generation, 0 where the list has none.
    """

    case: Case
    path: Path
    seconds: float


def read_list(path: str | Path, judges: Sequence[str], method: str, backbone: str) -> list[Given]:
    """Return the images of a list.

    Raises:
        ValueError: the list cannot be read, or a row has no image, a missing one, or invalid seconds.
    """
    if Path(path).is_dir():
        return read_geneval_folder(Path(path), judges, method, backbone)
    given: dict[str, Given] = {}
    numbered: Counter[tuple[str, tuple[Target, ...], str]] = Counter()
    for number, prompt in enumerate(load(path), start=1):
        image = Path(path).parent / prompt.tags.get("image", "")
        if image.suffix.lower() not in SUFFIXES or not image.is_file():
            raise ValueError(
                f"{path}, prompt {number}: no image {str(image)!r}; name a file that ends in {', '.join(SUFFIXES)} "
                "in the column 'image', relative to the list"
            )
        method_name = prompt.tags.get("method", method)
        key = _key(prompt, image, judges, method_name, backbone)
        if key in given:
            continue
        # Reports pair methods by prompt and seed: several images of a prompt need seeds of their own.
        group = (prompt.prompt, prompt.targets, method_name)
        case = Case(key, prompt, int(prompt.tags.get("seed", numbered[group])), backbone, method_name)
        numbered[group] += 1
        given[key] = Given(case, image, _seconds(prompt, f"{path}, prompt {number}"))
    return list(given.values())


def read_geneval_folder(folder: Path, judges: Sequence[str], method: str, backbone: str) -> list[Given]:
    """Return the images of the counting prompts in GenEval's layout; the number of a sample is its seed.

    Raises:
        ValueError: no such prompt, metadata that cannot be read, or a prompt without samples.
    """
    given: dict[str, Given] = {}
    for metadata in sorted(folder.glob("[0-9]*/metadata.jsonl")):
        if decoded(read_bytes(metadata, MAX_BYTES), dict[str, Any]).get("tag") != "counting":
            continue
        (prompt,) = load(metadata)
        prompt = replace(prompt, suite=folder.name)
        samples = sorted(metadata.parent.glob("samples/[0-9]*.*"))
        if not samples:
            raise ValueError(f"{metadata.parent} has no images in 'samples'")
        for image in samples:
            if image.suffix.lower() in SUFFIXES:
                key = _key(prompt, image, judges, method, backbone)
                given[key] = Given(Case(key, prompt, int(image.stem), backbone, method), image, 0.0)
    if not given:
        raise ValueError(
            f"{folder} holds no counting prompts in GenEval's layout (00000/metadata.jsonl, 00000/samples)"
        )
    return list(given.values())


def _key(prompt: Prompt, image: Path, judges: Sequence[str], method: str, backbone: str) -> str:
    counts = [asdict(target) for target in prompt.targets]
    pixels = hashlib.sha256(read_bytes(image, MAX_BYTES)).hexdigest()
    content = [prompt.prompt, counts, pixels, list(judges), method, backbone, prompt.tags.get("seed")]
    return content_digest(content)[:32]


def _seconds(prompt: Prompt, where: str) -> float:
    text = prompt.tags.get("seconds", "0")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{where}: {text!r} is no number of seconds")
    return seconds


def settings_of(
    path: str | Path,
    given: Sequence[Given],
    judges: Sequence[str],
    device: str,
    threads: int,
    *,
    trust_checkpoint: bool = False,
) -> GivenImages:
    """Return settings that allow a run folder to hold one list with one set of judges."""
    cases = [one.case for one in given]
    return GivenImages(
        suite=str(path),
        suite_sha256=content_digest([case.key for case in cases]),
        limit=None,
        backbones=tuple(dict.fromkeys(case.backbone for case in cases)),
        methods=tuple(dict.fromkeys(case.method for case in cases)),
        critics=(),
        judges=tuple(judges),
        max_evaluations=None,
        max_seconds=None,
        first_seed=0,
        seeds_per_prompt=1,
        shard="1/1",
        device=device,
        threads=threads,
        code=code_version(),
        trust_checkpoint=trust_checkpoint,
    )


def outcomes(given: Sequence[Given], settings: RunSettings) -> Iterator[Outcome]:
    """Yield the outcome of each image; one that cannot be read or judged becomes a failed record.

    Raises:
        ValueError, OSError: a judge that cannot be loaded, or that does not know an object of the list.
    """
    torch.set_num_threads(settings.threads)
    judges = {
        name: load_critic(name, settings.device, trust_checkpoint=settings.trust_checkpoint) for name in settings.judges
    }
    for judge, names in product(judges.values(), object_names(one.case for one in given)):
        judge.check_distinct(names)
    for one in given:
        try:
            yield _evaluated(one, settings, judges)
        except Exception as error:  # one bad image must not end the run
            yield failed(one.case, settings, error)


def _evaluated(given: Given, settings: RunSettings, judges: dict[str, Critic]) -> Outcome:
    decoded = open_image(given.path)
    image = to_batch(decoded)[0].to(settings.device)
    prompt, names = given.case.prompt, [target.object_name for target in given.case.prompt.targets]
    found = {name: judged(judge, image[None], names)[0] for name, judge in judges.items()}
    right = found[settings.judges[0]][0] == tuple(target.target_count for target in prompt.targets)
    path = f"{IMAGES}/{given.case.key}.png"
    record = Record(
        key=given.case.key,
        suite=prompt.suite,
        level=prompt.level,
        prompt=prompt.prompt,
        wanted=counts_of(prompt.targets),
        seed=given.case.seed,
        backbone=given.case.backbone,
        method=given.case.method,
        critics=(),
        judges=settings.judges,
        status="done",
        error=None,
        critic_counts=(),
        **record_fields(found),
        confirmed=False,
        trace=((1, given.seconds, right),),
        evaluations=1,
        seconds=given.seconds,
        peak_bytes=None,
        image=path,
        before=path,
    )
    return Outcome(record, decoded, None, {"prompt": prompt.prompt, "drawn_from": given.path.name}, os.getpid())


def judge_images(
    path: Path,
    folder: Path,
    judges: Sequence[str],
    *,
    method: str,
    backbone: str,
    device: str = "cpu",
    threads: int = 1,
    trust_checkpoint: bool = False,
    retry_failed: bool = False,
    quiet: bool = False,
) -> tuple[int, int]:
    """Let judges count the images of a list; the same call continues after any end.

    Args:
        path: the list.
        folder: of the run.
        judges: names of detectors; all of the miniature's if there are none.
        method, backbone: names in the records, if the list has none.
        device, threads, trust_checkpoint: of the judges.
        retry_failed: judge again what failed earlier.
        quiet: show no progress.

    Returns:
        The number of images, and of those that could not be read or judged.

    Raises:
        ValueError, OSError: bad input, or a folder that cannot be used.
    """
    judges = judges or list(dict.fromkeys((miniature.JUDGE, *miniature.DETECTORS)))
    given = read_list(path, judges, method, backbone)
    settings = settings_of(path, given, judges, device, threads, trust_checkpoint=trust_checkpoint)
    with RunFolder(folder, settings) as kept:
        earlier = {key for key, record in kept.records.items() if record.status == "done" or not retry_failed}
        left = [one for one in given if one.case.key not in earlier or one.case.key in kept.lost]
        finished = counted_progress(
            outcomes(left, settings),
            len(given),
            done=len(given) - len(left),
            has_failed=lambda one: one.record.status == "failed",
            shown=not quiet,
        )
        for outcome in finished:
            kept.keep(outcome)
        return len(given), sum(kept.records[one.case.key].status == "failed" for one in given)
