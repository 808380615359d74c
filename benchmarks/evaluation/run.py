"""Evaluate methods and backbones on a suite of prompts: every method gets the same prompts, seeds and budget.

Judges do not steer. After any end of a run, the same settings and folder continue where it stopped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from countgen.benchmarks.evaluation.plan import Case, RunSettings, cases, is_possible
from countgen.benchmarks.evaluation.run_folder import RunFolder
from countgen.benchmarks.evaluation.worker import Outcome
from countgen.errors import CountGenError
from countgen.progress import counted_progress
from countgen.tokens.library import available_tokens

Engine = Callable[[Sequence[Case], RunSettings], Iterator[Outcome]]
"""A function from the cases that are left to their outcomes, in any order."""
MOST_ALIKE = 20
"""Number of images that may fail in a row in a process for one reason before the run stops."""


class EverythingFailsError(CountGenError, ValueError):
    """A run whose images all fail for one reason."""


@dataclass(frozen=True)
class Summary:
    """The content of a run folder when a run ends.

    Attributes:
        total: number of images of the run.
        done, failed: numbers of these.
        earlier: number of images that existed before.
        lost: image files that were missing or incomplete at the start; their cases were generated again.
        left_out: number of images for which no token is shipped; they are no part of the run.
        reasons: number of failures by reason, the most frequent first.
    """

    total: int
    done: int
    failed: int
    earlier: int
    lost: tuple[str, ...]
    left_out: int
    reasons: dict[str, int]


def evaluate(
    settings: RunSettings, folder: str | Path, engine: Engine, *, retry_failed: bool = False, quiet: bool = False
) -> Summary:
    """Generate every image of a run that its folder does not hold yet, or holds incomplete.

    Args:
        settings: of the run.
        folder: of the results; that of a stopped run continues the run.
        engine: from `countgen.benchmarks.evaluation.engines`.
        retry_failed: generate cases that failed earlier again.
        quiet: show no progress.

    Raises:
        ValueError: a run without any image, or as `countgen.benchmarks.evaluation.plan.cases`.
        RunFolderError: the folder is in use, damaged, or of other settings.
        EverythingFailsError: several images in a row failed for one reason.
        OSError: the folder cannot be written; finished results are kept.
    """
    every = cases(settings)
    possible = [case for case in every if is_possible(case)]
    if every and not possible and settings.shard == "1/1":  # one part of several may be empty
        known = ", ".join(available_tokens(every[0].backbone)) or "none"
        raise ValueError(
            f"none of the {len(every)} images of {settings.suite} with {', '.join(settings.methods)} can be generated: "
            f"the count tokens are for one class, {known}; give other prompts, or a method without a token"
        )
    summary = finish(possible, settings, folder, engine, retry_failed=retry_failed, quiet=quiet)
    return replace(summary, left_out=len(every) - len(possible))


def finish(
    run_cases: Sequence[Case],
    settings: RunSettings,
    folder: str | Path,
    engine: Engine,
    *,
    retry_failed: bool = False,
    quiet: bool = False,
) -> Summary:
    """Record every case that a run's folder does not hold yet, as `evaluate` does."""
    with RunFolder(folder, settings) as kept:
        earlier = {key for key, record in kept.records.items() if record.status == "done" or not retry_failed}
        left = [case for case in run_cases if case.key not in earlier or case.key in kept.lost]
        done = len(run_cases) - len(left)
        lost = tuple(name for case in left for name in kept.lost.get(case.key, ()))
        outcomes = engine(left, settings)
        outcomes = counted_progress(outcomes, len(run_cases), done=done, has_failed=_has_failed, shown=not quiet)
        latest: dict[int, tuple[str | None, int]] = {}
        for outcome in outcomes:
            kept.keep(outcome)
            _stop_if_all_fail(outcome, latest)
        records = [kept.records[case.key] for case in run_cases]
    reasons = Counter(record.error or "unknown" for record in records if record.status == "failed")
    return Summary(
        total=len(records),
        done=len(records) - reasons.total(),
        failed=reasons.total(),
        earlier=done,
        lost=lost,
        left_out=0,
        reasons=dict(reasons.most_common()),
    )


def _stop_if_all_fail(outcome: Outcome, latest: dict[int, tuple[str | None, int]]) -> None:
    """Stop a run in which a process fails repeatedly for one reason, such as a lost device.

    Args:
        outcome: the latest one.
        latest: the error of each process, and how often it occurred in a row; updated.
    """
    error = outcome.record.error
    before, times = latest.get(outcome.process, (None, 0))
    times = times + 1 if error == before else 1
    latest[outcome.process] = error, times
    if error is not None and times == MOST_ALIKE:
        raise EverythingFailsError(
            f"stopped, because {MOST_ALIKE} images failed one after the other for the same reason: {error}; what is "
            "finished is kept. Mend that and give the same command with --retry-failed, or without it to go on with "
            "the others"
        )


def _has_failed(outcome: Outcome) -> bool:
    return outcome.record.status == "failed"
