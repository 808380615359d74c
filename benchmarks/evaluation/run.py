"""Evaluate methods and backbones on a suite of prompts: `python -m benchmarks.evaluation.run --suite NAME`.

Every method gets the same prompts, seeds and budget. Judges do not steer. After any end of a run, the same command
continues where it stopped. `python -m benchmarks.evaluation.report RUN` reports the results.
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
"""Number of images that may fail in a row in a process for one reason before the run stops."""
_SHOWN_REASONS = 3


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
        left_out: number of images for which no token is shipped or no adapter trained; they are no part of the run.
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
        engine: from `benchmarks.evaluation.engines`.
        retry_failed: generate cases that failed earlier again.
        quiet: show no progress.

    Raises:
        RunFolderError: the folder is in use, damaged, or of other settings.
        EverythingFailsError: several images in a row failed for one reason.
        OSError: the folder cannot be written; finished results are kept.
    """
    from benchmarks.evaluation.image_files import lost_images_message
    from benchmarks.evaluation.plan import cases, left_out
    from benchmarks.evaluation.progress import shown
    from benchmarks.evaluation.run_folder import RunFolder

    everything = cases(settings)
    with RunFolder(folder, settings) as kept:
        earlier = {key for key, record in kept.records.items() if record.status == "done" or not retry_failed}
        left = [case for case in everything if case.key not in earlier or case.key in kept.lost]
        lost = tuple(name for case in left for name in kept.lost.get(case.key, ()))
        if lost and not quiet:
            print(f"{lost_images_message(kept.path, lost)}; generated again", file=sys.stderr)
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


class _Renamed(argparse.Action):
    """The option of earlier versions."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Refuse it, and say what to write."""
        parser.error("--backbones is now --model NAMES")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command line."""
    names: dict[str, Any] = {"type": _names, "metavar": "NAMES"}
    parser.add_argument("--suite", metavar="NAME|FILE", help="prompts with known counts")
    parser.add_argument("--out", type=Path, metavar="RUN", help="folder of the results")
    parser.add_argument(
        "--rejudge",
        type=Path,
        metavar="RUN",
        help="generate nothing: let each --judge count the images of this run, in place of --suite and --out",
    )
    parser.add_argument(
        "--batch-size", type=int, default=1, metavar="N", help="images that --rejudge judges at once (%(default)s)"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="so many prompts of the suite, evenly spread (all)")
    parser.add_argument(
        "--methods",
        default=DEFAULT_METHODS,
        help="to compare, with commas; METHOD+token uses a count token for the number, METHOD+adapter a noise adapter, "
        "METHOD+as-written no number slider (%(default)s)",
        **names,
    )
    parser.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="NAME|FILE",
        help="the noise adapter of METHOD+adapter (the model's shipped one)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="METHOD.NAME=VALUE",
        help="a setting of a method, such as noise.learning_rate=0.1; repeatable",
    )
    parser.add_argument(
        "--model",
        dest="backbones",
        default="miniature",
        type=_names,
        metavar="NAME|HUB-ID|FOLDER|FILE[@REVISION]",
        help="the models to compare, as countgen generate takes them, with commas (%(default)s)",
    )
    parser.add_argument("--backbones", action=_Renamed, nargs="?", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.add_argument(
        "--critic", action="append", metavar="NAME", help="steers; repeatable (chosen by what is counted)"
    )
    parser.add_argument(
        "--judge",
        action="append",
        metavar="NAME",
        help="only counts; repeatable, the first decides (chosen by what is counted; of an embedded model all others)",
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
    """Return the settings of a run from the command line.

    Raises:
        ValueError: an unknown name, no case, a judge that steers, or an invalid method setting.
    """
    from benchmarks.evaluation import arms
    from benchmarks.evaluation.models import recorded_model, run_detectors
    from benchmarks.evaluation.plan import RunSettings, adapter_digests, code_version, suite_digest

    models = [recorded_model(model) for model in options.backbones]
    backbones = tuple(name for name, _ in models)
    critics, judges, chosen = run_detectors(backbones, options.suite, options.critic, options.judge)
    if chosen and not (options.quiet or options.json):
        print(f"detectors: {printable(chosen, 400)}", flush=True)
    unlimited = options.max_evaluations is None and options.max_seconds is None
    return RunSettings(
        suite=options.suite,
        suite_sha256=suite_digest(options.suite),
        limit=options.limit,
        backbones=backbones,
        methods=options.methods,
        critics=critics,
        judges=judges,
        max_evaluations=DEFAULT_MAX_EVALUATIONS if unlimited else options.max_evaluations,
        max_seconds=options.max_seconds,
        first_seed=options.first_seed,
        seeds_per_prompt=options.seeds,
        shard=options.shard,
        device=device_from(options),
        threads=options.threads,
        code=code_version(),
        trust_checkpoint=options.trust_checkpoint,
        method_settings=arms.canonical(options.methods, options.set),
        sources=tuple(source for _, source in models),
        adapter=tuple(options.adapter),
        adapters=adapter_digests(options.methods, backbones, tuple(options.adapter)),
    )


def run(options: argparse.Namespace) -> int:
    """Run an evaluation from the command line; return 0 if every image was generated, 1 if some failed.

    Raises:
        ValueError, OSError: bad input, or a folder that cannot be used.
    """
    from benchmarks.evaluation.image_files import lost_images_message
    from countgen.models import check_detectors

    if options.rejudge is not None:
        from benchmarks.evaluation.rejudge import run as rejudge

        return rejudge(options, device_from(options))
    if not (options.suite and options.out):
        raise ValueError("give --suite and --out, or --rejudge RUN with judges for a finished run")
    settings = settings_from(options)
    if options.address is None:  # with a cluster the detectors' files are on other machines
        check_detectors((*settings.critics, *settings.judges))
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
        print(f"{lost_images_message(options.out, summary.lost)}; they were generated again")
    if summary.left_out:
        print(f"{summary.left_out} more are no part of the run: no token or adapter is made for their targets")
    if summary.failed:
        print(f"{summary.failed} failed, the reasons are in their records; --retry-failed generates them again")
        for reason, times in list(summary.reasons.items())[:_SHOWN_REASONS]:
            print(f"  {times} x {printable(reason, 300)}")
    print(f"results: countgen report {printable(options.out)}")
    return 1 if summary.failed else 0


def device_from(options: argparse.Namespace) -> str:
    """Return the device of the command line; by default CUDA where there is one."""
    import torch

    return options.device or ("cuda" if torch.cuda.is_available() else "cpu")


def engine_from(options: argparse.Namespace) -> Engine:
    """Return the engine of the command line; Ray is imported only for its engine."""
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
    """Run the command line."""
    return run_module("benchmarks.evaluation.run", __doc__, add_arguments, run, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
