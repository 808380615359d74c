"""Evaluate images from another source: `countgen eval --images mine.csv --out RUN`.

The list is a prompt list as `evaluation.suites.load` reads it, with a column `image` and, if known, `method`, `seed`
and `seconds`; or a folder in GenEval's layout. Without seeds, those of one prompt and method are 0, 1, ....
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

from countgen.benchmarks.evaluation.judges import judged, record_fields
from countgen.benchmarks.evaluation.plan import (
    Case,
    RunSettings,
    check_names,
    content_digest,
    in_shard,
    object_names,
    shard_of,
)
from countgen.benchmarks.evaluation.records import IMAGES, Record
from countgen.benchmarks.evaluation.run import Summary, finish
from countgen.benchmarks.evaluation.suites import Prompt, load
from countgen.benchmarks.evaluation.worker import Outcome, case_fields, failed
from countgen.critics import Critic
from countgen.critics.validation import to_batch
from countgen.files.image_file import MAX_BYTES, SUFFIXES, open_image
from countgen.files.reading import read_bytes
from countgen.files.schema import decoded
from countgen.models import check_detector, load_critic
from countgen.prompts import Target


class GivenImages(RunSettings):
    """Settings of a run of given images: nothing steers, and the backbone may have any name."""

    def __post_init__(self) -> None:
        check_names("judge", self.judges)
        shard_of(self.shard)
        for name in self.judges:
            check_detector(name)


@dataclass(frozen=True)
class Given:
    """An image from another source.

    Attributes:
        case: its prompt, and the key of its record.
        path: of the image.
        digest: of the prompt, its targets and the pixels, whoever judges them.
        seconds: of its generation; None if the list has none.
    """

    case: Case
    path: Path
    digest: str
    seconds: float | None


def read_list(path: str | Path, judges: Sequence[str], method: str, backbone: str) -> list[Given]:
    """Return the images of a list.

    Args:
        path: of the list, or a folder in GenEval's layout.
        judges: names of detectors.
        method, backbone: of the images for which the list has none.

    Raises:
        ValueError: the list cannot be read, or a row has no image, a missing one, or invalid seconds.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    given: dict[str, Given] = {}
    numbered: Counter[tuple[str, tuple[Target, ...], str]] = Counter()
    for number, prompt in enumerate(_geneval_prompts(path) if path.is_dir() else load(path), start=1):
        image = folder / prompt.tags.get("image", "")
        if image.suffix.lower() not in SUFFIXES or not image.is_file():
            raise ValueError(
                f"{path}, prompt {number}: {str(image)!r} is not an image; name a file that ends in "
                f"{', '.join(SUFFIXES)} in the column 'image', relative to the list"
            )
        method_name = prompt.tags.get("method", method)
        pixels = hashlib.sha256(read_bytes(image, MAX_BYTES)).hexdigest()
        counts = [asdict(target) for target in prompt.targets]
        digest = content_digest([prompt.prompt, counts, pixels, prompt.tags.get("seed")])
        key = content_digest([digest, list(judges), method_name, backbone])[:32]
        if key in given:
            continue
        # Reports pair methods by prompt and seed: several images of a prompt need seeds of their own.
        group = (prompt.prompt, prompt.targets, method_name)
        seed = int(prompt.tags.get("seed", numbered[group]))
        case = Case(key, prompt, seed, backbone, method_name, critics=(), judges=tuple(judges))
        numbered[group] += 1
        given[key] = Given(case, image, digest, _seconds(prompt, f"{path}, prompt {number}"))
    return list(given.values())


def _geneval_prompts(folder: Path) -> Iterator[Prompt]:
    """Yield the counting prompts in GenEval's layout, one for each sample, whose number is its seed."""
    known = None
    for metadata in sorted(folder.glob("[0-9]*/metadata.jsonl")):
        if decoded(read_bytes(metadata, MAX_BYTES), dict[str, Any]).get("tag") != "counting":
            continue
        (known,) = load(metadata)
        samples = sorted(metadata.parent.glob("samples/[0-9]*.*"))
        if not samples:
            raise ValueError(f"the folder 'samples' in {metadata.parent} is empty or missing")
        for image in samples:
            if image.suffix.lower() in SUFFIXES:
                tags = {"image": image.relative_to(folder).as_posix(), "seed": str(int(image.stem))}
                yield replace(known, suite=folder.name, tags=tags)
    if known is None:
        raise ValueError(
            f"{folder} does not hold counting prompts in GenEval's layout (00000/metadata.jsonl, 00000/samples)"
        )


def _seconds(prompt: Prompt, where: str) -> float | None:
    text = prompt.tags.get("seconds")
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{where}: {text!r} is not a number of seconds")
    return seconds


def settings_of(path: str | Path, given: Sequence[Given], judges: Sequence[str], **options: Any) -> GivenImages:
    """Return settings that allow a run folder to hold one list, or a shard of it, with one set of judges.

    `options` are others of `RunSettings`: `device`, `threads`, `shard`, `trust_checkpoint`.
    """
    cases = [image.case for image in given]
    return GivenImages(
        suite=str(path),
        suite_sha256=content_digest([image.digest for image in given]),
        backbones=tuple(dict.fromkeys(case.backbone for case in cases)),
        methods=tuple(dict.fromkeys(case.method for case in cases)),
        critics=(),
        judges=tuple(judges),
        **options,
    )


def judge_images(
    given: Sequence[Given], settings: GivenImages, folder: Path, *, retry_failed: bool = False, quiet: bool = False
) -> Summary:
    """Let judges count the images of a list; the same call continues after any end.

    An image that cannot be read or judged becomes a failed record.

    Args:
        given: from `read_list`.
        settings: from `settings_of`.
        folder: of the run.
        retry_failed, quiet: as of `countgen.benchmarks.evaluation.run.evaluate`.

    Raises:
        ValueError, OSError: a judge that cannot be loaded, or that does not know an object of the list; or a folder
            that cannot be used.
    """
    by_key = {image.case.key: image for image in given}

    def outcomes(cases: Sequence[Case], settings: RunSettings) -> Iterator[Outcome]:
        torch.set_num_threads(settings.threads)
        judges = {
            name: load_critic(name, settings.device, trust_checkpoint=settings.trust_checkpoint)
            for name in settings.judges
        }
        for judge, names in product(judges.values(), object_names(cases)):
            judge.check_distinct(names)
        for case in cases:
            try:
                yield _evaluated(by_key[case.key], settings.device, judges)
            except Exception as error:  # one bad image must not end the run
                yield failed(case, error)

    cases = [image.case for image in given if in_shard(image.case.key, settings.shard)]
    return finish(cases, settings, folder, outcomes, retry_failed=retry_failed, quiet=quiet)


def _evaluated(given: Given, device: str, judges: dict[str, Critic]) -> Outcome:
    decoded = open_image(given.path)
    images = to_batch(decoded).to(device)
    targets = given.case.prompt.targets
    names = [target.object_name for target in targets]
    counted = {name: judged(judge, images, names)[0] for name, judge in judges.items()}
    right = counted[given.case.judges[0]][0] == tuple(target.target_count for target in targets)
    path = f"{IMAGES}/{given.case.key}.png"
    record = Record(
        **case_fields(given.case),
        status="done",
        **record_fields(counted),
        trace=((1, given.seconds, right),),
        evaluations=1,
        seconds=given.seconds,
        image=path,
        before=path,
        listed_as=Path(given.case.prompt.tags["image"]).as_posix(),
    )
    return Outcome(record, decoded, None, {"prompt": given.case.prompt.prompt}, os.getpid())
