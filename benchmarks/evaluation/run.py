"""Evaluate methods and backbones on a suite of prompts: `python -m benchmarks.evaluation.run --suite NAME`.

Every method gets the same prompts, seeds and budget. Judges steer nothing. Whatever ends a run, the same command
goes on where it stopped. `python -m benchmarks.evaluation.report RUN` shows what it found.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.evaluation.as_module import run_module
from countgen.errors import CountGenError
from countgen.printable import printable

if TYPE_CHECKING:
    from benchmarks.evaluation.engines import Engine
    from benchmarks.evaluation.plan import Case, RunSettings
    from benchmarks.evaluation.worker import Outcome

# Nothing heavy is imported above: `countgen eval --help` reads this file.

ENGINES = ("local", "ray")
DEFAULT_METHODS = "plain,search,noise,auto"
DEFAULT_MAX_EVALUATIONS = 100
MOST_ALIKE = 20
"""Images that may fail in a process one after the other for one reason, before the run stops."""
_SHOWN_REASONS = 3


class EverythingFailsError(CountGenError, ValueError):
    """A run that fails at every image."""


@dataclass(frozen=True)
class Summary:
    """The content of a run folder when a run ends.

    Attributes:
        total: images of the run.
        done, failed: of these.
        earlier: were there before.
        lost: images that were missing or cut short when it began; their cases were generated again.
        left_out: images that no count token is shipped for; they are no part of the run.
        reasons: how many failed of each, the commonest first.
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
    """Generate every image of a run that its folder does not hold yet, and those of which it holds no whole image.

    Args:
        settings: of the run.
        folder: where its results are kept; the same one goes on with a run that was stopped.
        engine: from `benchmarks.evaluation.engines`.
        retry_failed: generate what failed earlier again.
        quiet: show no progress.

    Raises:
        RunFolderError: the folder is in use, damaged, or of other settings.
        EverythingFailsError: image after image failed for one reason.
        OSError: it cannot be written; what is finished is kept.
    """
    from benchmarks.evaluation.image_files import said_of_lost
    from benchmarks.evaluation.plan import cases, left_out
    from benchmarks.evaluation.progress import shown
    from benchmarks.evaluation.run_folder import RunFolder

    everything = cases(settings)
    with RunFolder(folder, settings) as kept:
        earlier = {key for key, record in kept.records.items() if record.status == "done" or not retry_failed}
        left = [case for case in everything if case.key not in earlier or case.key in kept.lost]
        lost = tuple(name for case in left for name in kept.lost.get(case.key, ()))
        if lost and not quiet:
            print(f"{said_of_lost(kept.path, lost)}; generated again", file=sys.stderr)
        outcomes = engine(left, settings)
        if not quiet:
            outcomes = shown(outcomes, len(everything), len(everything) - len(left), _has_failed)
        latest: dict[int, tuple[str | None, int]] = {}
        for outcome in outcomes:
            kept.keep(outcome)
            _refuse_to_fail_on(outcome, latest)
        records = [kept.records[case.key] for case in everything]
    reasons = Counter(record.error or "unknown" for record in records if record.status == "failed")
    return Summary(
        total=len(records),
        done=len(records) - reasons.total(),
        failed=reasons.total(),
        earlier=len(everything) - len(left),
        lost=lost,
        left_out=len(left_out(settings)),
        reasons=dict(reasons.most_common()),
    )


def _refuse_to_fail_on(outcome: Outcome, latest: dict[int, tuple[str | None, int]]) -> None:
    """Stop where a process fails again and again for one reason: its device is lost, say, and so is all that follows.

    Args:
        outcome: what came last.
        latest: each process's error, and how often in a row; updated.
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


class _Renamed(argparse.Action):
    """The option of earlier versions."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Refuse it, and say what to write."""
        parser.error("--backbones is now --model NAMES")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command line."""
    names: dict[str, Any] = {"type": _names, "metavar": "NAMES"}
    parser.add_argument("--suite", required=True, metavar="NAME|FILE", help="prompts with known counts")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the results")
    parser.add_argument("--limit", type=int, metavar="N", help="so many prompts of the suite, evenly spread (all)")
    parser.add_argument(
        "--methods",
        default=DEFAULT_METHODS,
        help="to compare, with commas; METHOD+token says the number by a count token (%(default)s)",
        **names,
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="METHOD.NAME=VALUE",
        help="a setting of a method, such as noise.learning_rate=0.1; repeatable",
    )
    parser.add_argument(
        "--model", dest="backbones", default="miniature", help="presets, with commas (%(default)s)", **names
    )
    parser.add_argument("--backbones", action=_Renamed, nargs="?", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.add_argument("--critic", action="append", metavar="NAME", help="steers; repeatable (the backbone's own)")
    parser.add_argument(
        "--judge", action="append", metavar="NAME", help="only counts; repeatable, the first decides (all others)"
    )
    parser.add_argument(
        "--trust-checkpoint",
        action="store_true",
        help="let code in the .pt files of --critic and --judge run, with your rights",
    )
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="images per prompt and method (%(default)s)")
    parser.add_argument(
        "--first-seed", type=int, default=700_000, metavar="N", help="of the first prompt (%(default)s)"
    )
    parser.add_argument("--max-evaluations", type=int, metavar="N", help=f"for an image ({DEFAULT_MAX_EVALUATIONS})")
    parser.add_argument("--max-seconds", type=float, metavar="S", help="for an image; its results depend on the clock")
    parser.add_argument("--retry-failed", action="store_true", help="generate what failed earlier again")
    parser.add_argument("--shard", default="1/1", metavar="I/N", help="this part of the run only, in its own folder")
    parser.add_argument("--engine", choices=ENGINES, default="local", help="what generates (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="of --engine ray (%(default)s)")
    parser.add_argument("--address", metavar="HOST:PORT", help="of a Ray cluster; a local one by default")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, ... (CUDA where there is one)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of torch, in each process (%(default)s)")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def settings_from(options: argparse.Namespace) -> RunSettings:
    """Return the settings of a run as the command line asks for it.

    Raises:
        ValueError: an unknown name, nothing to do, a judge that steers, or a method setting that cannot be.
    """
    import torch

    from benchmarks.evaluation import arms
    from benchmarks.evaluation.plan import RunSettings, code_version, steering, suite_digest
    from countgen import miniature

    embedded = all(backbone.startswith("miniature") for backbone in options.backbones)
    critics = tuple(options.critic or (miniature.CRITICS if embedded else ()))
    others = (miniature.JUDGE, *miniature.DETECTORS) if embedded else ()
    judges = tuple(options.judge or dict.fromkeys(name for name in others if name not in steering(critics)))
    unlimited = options.max_evaluations is None and options.max_seconds is None
    return RunSettings(
        suite=options.suite,
        suite_sha256=suite_digest(options.suite),
        limit=options.limit,
        backbones=options.backbones,
        methods=options.methods,
        critics=critics,
        judges=judges,
        max_evaluations=DEFAULT_MAX_EVALUATIONS if unlimited else options.max_evaluations,
        max_seconds=options.max_seconds,
        first_seed=options.first_seed,
        seeds_per_prompt=options.seeds,
        shard=options.shard,
        device=options.device or ("cuda" if torch.cuda.is_available() else "cpu"),
        threads=options.threads,
        code=code_version(),
        trust_checkpoint=options.trust_checkpoint,
        method_settings=arms.canonical(options.methods, options.set),
    )


def run(options: argparse.Namespace) -> int:
    """Evaluate as the command line asks; return 0 if every image was generated, 1 if some failed.

    Raises:
        ValueError, OSError: bad input, or a folder that cannot be used.
    """
    from benchmarks.evaluation.image_files import said_of_lost

    settings = settings_from(options)
    summary = evaluate(
        settings,
        options.out,
        engine_from(options),
        retry_failed=options.retry_failed,
        quiet=options.quiet or options.json,
    )
    if options.json:
        print(json.dumps({"run": str(options.out), **asdict(summary)}))
        return 1 if summary.failed else 0
    print(f"{summary.done} of {summary.total} images are in {printable(options.out)}")
    if summary.earlier:
        print(f"{summary.earlier} were there before")
    if summary.lost:
        print(f"{said_of_lost(options.out, summary.lost)}; they were generated again")
    if summary.left_out:
        print(f"{summary.left_out} more are no part of the run: no count token is shipped for what they ask")
    if summary.failed:
        print(f"{summary.failed} failed, their records say why; --retry-failed generates them again")
        for reason, times in list(summary.reasons.items())[:_SHOWN_REASONS]:
            print(f"  {times} x {printable(reason, 300)}")
    print(f"results: countgen report {printable(options.out)}")
    return 1 if summary.failed else 0


def engine_from(options: argparse.Namespace) -> Engine:
    """Return the engine that is asked for; Ray is imported only if it is."""
    if options.engine == "local":
        from benchmarks.evaluation.engines import local

        return local.attempts
    from benchmarks.evaluation.engines import ray_cluster

    def attempts(cases: Sequence[Case], settings: RunSettings) -> Iterator[Outcome]:
        return ray_cluster.attempts(cases, settings, workers=options.workers, address=options.address)

    return attempts


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    return run_module("benchmarks.evaluation.run", __doc__, add_arguments, run, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
