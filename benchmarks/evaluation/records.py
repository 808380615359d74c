"""The records of an evaluation: one JSON line per image, appended, never changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from countgen.errors import CountGenError
from countgen.files.json_lines import Line, read_lines
from countgen.files.printable import printable
from countgen.files.reading import read_bytes
from countgen.files.schema import Integer, Whole, converted, decoded
from countgen.prompts import MAX_TARGET_COUNT, Target

RECORDS = "records.jsonl"
PACKED = "records.jsonl.xz"
"""Name of the compressed records of a finished run; nothing is appended to them."""
SETTINGS = "settings.json"
MAX_SETTINGS_BYTES = 2**20
ADVICE = ", and the run does its case again"
IMAGES = "images"
"""Folder of a run's images."""

Box = tuple[Integer, Integer, Integer, Integer]


class RunFolderError(CountGenError, ValueError):
    """A run folder that cannot be used: not a run, in use, of other settings, or damaged."""


_ObjectName = Annotated[str, Meta(pattern=r"\S")]
_TargetCount = Annotated[int, Meta(ge=1, le=MAX_TARGET_COUNT)]


class Record(Line, frozen=True, kw_only=True, gc=False):
    """One image of an evaluation, or one that failed.

    Attributes:
        key: names the case by its content: the same case has the same key in every run.
        suite, level: name of the prompt's suite, and "easy" (1-5), "medium" (6-10), "hard" (11-15) or "beyond".
        prompt, seed: of the case.
        wanted: target count by object name; in the file, `targets`.
        backbone, method, critics: models and method; the method is an arm, see `countgen.benchmarks.evaluation.arms`.
        judges: detectors that counted and did not steer; the first one decides.
        status: "done" or "failed".
        error: message of the failure; None when done.
        critic_counts: of the first critic, per target; empty when failed, as all fields below are.
        judge_counts: by judge, per target.
        confidence: by judge, the mean class probability of its detections, 0 where there are none.
        boxes: by judge, of its detections, absolute-pixel xyxy; empty for judges that count without detecting.
        confirmed: the probability of a right count was high enough for the run.
        trace: (evaluations, seconds, right by the first judge) at each change of the best candidate; judged afterwards.
        evaluations, seconds: spent on the image, without loading and judging; seconds are None if unknown.
        peak_bytes: of memory while it was generated: the device's on CUDA, otherwise the process's; None if unknown.
        image, before: paths of the image and of the plain one, relative to the run folder; None when failed.
        truncated: whether a text encoder truncated the prompt, as the pipeline warns; None for images from another
            source.
        objects_kept, background_change, structural_similarity: of the image compared with the plain one of its seed,
            by the first judge, see `countgen.image_preservation`; None where that judge has no boxes, and for images
            from another source.
        probability: of a right count, by the critics; None for images from another source.
        listed_as: path of an image from another source, as its list names it; None for generated images.
    """

    key: str
    suite: str
    level: str
    prompt: str
    wanted: dict[_ObjectName, _TargetCount] = field(name="targets")
    seed: Whole
    backbone: str
    method: str
    critics: tuple[str, ...]
    judges: Annotated[tuple[str, ...], Meta(min_length=1)]
    status: Literal["done", "failed"]
    error: str | None = None
    critic_counts: tuple[Integer, ...] = ()
    judge_counts: dict[str, tuple[Integer, ...]] = field(default_factory=dict)
    confidence: dict[str, float] = field(default_factory=dict)
    boxes: dict[str, tuple[Box, ...]] = field(default_factory=dict)
    confirmed: bool = False
    trace: tuple[tuple[Whole, float | None, bool], ...] = ()
    evaluations: Whole = 0
    seconds: float | None = 0.0
    peak_bytes: Whole | None = None
    image: str | None = None
    before: str | None = None
    truncated: bool | None = None
    objects_kept: float | None = None
    background_change: float | None = None
    structural_similarity: float | None = None
    probability: float | None = None
    listed_as: str | None = None

    def __post_init__(self) -> None:
        counts = {"critic": self.critic_counts or (0,) * len(self.wanted), **self.judge_counts}
        for counter, numbers in counts.items():
            if len(numbers) != len(self.wanted):
                raise ValueError(f"{counter} has {len(numbers)} counts for {len(self.wanted)} objects")

    @property
    def targets(self) -> tuple[Target, ...]:
        """The target count of each object class."""
        return _targets(tuple(self.wanted.items()))


def counts_of(targets: Iterable[Target]) -> dict[str, int]:
    """Return targets as `Record.wanted` holds them."""
    return {target.object_name: target.target_count for target in targets}


@lru_cache(maxsize=1024)
def _targets(counts: tuple[tuple[str, int], ...]) -> tuple[Target, ...]:
    return tuple(Target(*count) for count in counts)


class _ReportedSettings(Struct):
    """The settings that a report reads; it shows or compares the others."""

    methods: tuple[str, ...] = ()
    backbones: tuple[str, ...] = ()
    max_evaluations: Whole | None = None
    max_seconds: float | None = None


def read_run(folder: str | Path) -> tuple[dict[str, Any], list[Record]]:
    """Return settings and records of a run, finished or not; one record per case, the latest.

    Raises:
        RunFolderError: not a run, or a damaged line; a last line that is still being written is left out.
    """
    folder = Path(folder)
    try:
        settings = read_settings(folder)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunFolderError(
            f"{printable(folder)} is not a run: {SETTINGS} is missing; give a folder that an evaluation wrote"
        ) from error
    packed = folder / PACKED
    return settings, read_records(packed if packed.exists() else folder / RECORDS)


def read_settings(folder: Path) -> dict[str, Any]:
    """Return the settings of a run.

    Raises:
        FileNotFoundError, NotADirectoryError: the folder has none.
        RunFolderError: they are damaged.
    """
    path = folder / SETTINGS
    try:
        settings = decoded(read_bytes(path, MAX_SETTINGS_BYTES), dict[str, Any])
        converted(settings, _ReportedSettings)
    except ValueError as error:
        raise RunFolderError(f"{printable(path)} is damaged: {error}") from error
    return settings


def differing_settings(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Return the names of the settings that two runs do not share.

    Suites are compared by digest, since one suite may have several paths.
    """
    names = [name for name in dict.fromkeys((*first, *second)) if first.get(name) != second.get(name)]
    suites = {Path(str(settings.get("suite"))).name for settings in (first, second)}
    return [name for name in names if name != "suite" or len(suites) > 1]


def read_records(path: Path) -> list[Record]:
    """Return the records of a file in their order, of several for one case the latest; empty if it is missing.

    Raises:
        RunFolderError: a damaged line before the last.
    """
    try:
        return list({record.key: record for record in read_lines(path, Record, ADVICE)}.values())
    except (OSError, ValueError) as error:
        raise RunFolderError(str(error)) from error
