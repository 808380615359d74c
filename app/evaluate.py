"""`countgen eval`: compare methods and backbones on a suite of prompts; the same command resumes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countgen.app.argument_types import add_trust_checkpoint
from countgen.app.exit_codes import NOT_REACHED, OK
from countgen.app.loading import available_device
from countgen.app.model_arguments import (
    METAVAR,
    add_calibration,
    add_loading,
    add_negative_prompt,
    add_sampling,
    given_of,
)

if TYPE_CHECKING:
    from countgen.benchmarks.evaluation.engines import Engine
    from countgen.benchmarks.evaluation.plan import Case, RunSettings
    from countgen.benchmarks.evaluation.run import Summary
    from countgen.benchmarks.evaluation.worker import Outcome

ENGINES = ("local", "ray")
DEFAULT_METHODS = "plain,search,noise,auto"
DEFAULT_MAX_EVALUATIONS = 100
_SHOWN_REASONS = 3


def add_parser(commands: Any) -> None:
    """Add the command to the sub-parsers."""
    parser = commands.add_parser(
        "eval",
        help="compare methods on many prompts",
        description="Generate every prompt of a suite with every method, count with independent judges, and keep a "
        "record of each image. After an interruption the same command resumes the evaluation. "
        "The exit code is 1 if some images failed. Images that anything else generated: python -m "
        "countgen.benchmarks.evaluation.judge_images --help.",
    )
    parser.set_defaults(run=run)
    add_arguments(parser)


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
        help="to compare, with commas; METHOD+token uses a count token for the number, METHOD+as-written no number "
        "slider (%(default)s)",
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
        "--model",
        dest="backbones",
        default="miniature",
        type=_names,
        metavar=METAVAR,
        help="the models to compare, as countgen generate takes them, with commas (%(default)s)",
    )
    add_loading(parser)
    add_sampling(parser)
    add_negative_prompt(parser)
    add_calibration(parser)
    parser.add_argument(
        "--critic", action="append", metavar="NAME", help="steers; repeatable (chosen by what is counted)"
    )
    parser.add_argument(
        "--judge",
        action="append",
        metavar="NAME",
        help="only counts; repeatable, the first decides (chosen by what is counted; of an embedded model all others)",
    )
    add_trust_checkpoint(parser)
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


def run(options: argparse.Namespace) -> int:
    """Run the evaluation; return 0 if every image was generated, 1 if some failed.

    Raises:
        ValueError, OSError: bad input, or a folder that cannot be used.
    """
    from countgen.benchmarks.evaluation.run import evaluate
    from countgen.models import check_detectors

    if options.rejudge is not None:
        from countgen.benchmarks.evaluation.rejudge import run as rejudge

        return rejudge(options, _device(options))
    if not (options.suite and options.out):
        raise ValueError("give --suite and --out, or --rejudge RUN with judges for a finished run")
    settings = settings_from(options)
    if options.address is None:  # with a cluster the detectors' files are on other machines
        check_detectors((*settings.critics, *settings.judges))
    summary = evaluate(
        settings,
        options.out,
        _engine(options),
        retry_failed=options.retry_failed,
        quiet=options.quiet or options.json,
    )
    if options.json:
        print(json.dumps({"run": str(options.out), **asdict(summary)}))
    else:
        _report(summary, options.out)
    return NOT_REACHED if summary.failed else OK


def settings_from(options: argparse.Namespace) -> RunSettings:
    """Return the settings of a run from the command line.

    Raises:
        ValueError: an unknown name, no case, a judge that steers, or an invalid method setting.
        OSError: a model's or a calibration's file cannot be read.
    """
    from countgen.benchmarks.evaluation import arms
    from countgen.benchmarks.evaluation.generation import Generation
    from countgen.benchmarks.evaluation.models import recorded_model, run_detectors
    from countgen.benchmarks.evaluation.plan import RunSettings, code_version, suite_digest
    from countgen.files.printable import printable

    models = [recorded_model(model) for model in options.backbones]
    backbones = tuple(name for name, _ in models)
    critics, judges, chosen = run_detectors(backbones, options.suite, options.critic, options.judge)
    if chosen and not (options.quiet or options.json):
        print(f"detectors: {printable(chosen, 400)}", flush=True)
    unlimited = options.max_evaluations is None and options.max_seconds is None
    calibration = str(options.calibration) if options.calibration else None
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
        device=_device(options),
        threads=options.threads,
        code=code_version(),
        trust_checkpoint=options.trust_checkpoint,
        method_settings=arms.canonical(options.methods, options.set),
        sources=tuple(source for _, source in models),
        generation=Generation(**given_of(options), negative_prompt=options.negative_prompt, calibration=calibration),
    )


def _report(summary: Summary, out: Path) -> None:
    from countgen.benchmarks.evaluation.image_files import lost_images_message
    from countgen.files.printable import printable

    print(f"{summary.done} of {summary.total} images are in {printable(out)}")
    if summary.earlier:
        print(f"{summary.earlier} were there before")
    if summary.lost:
        print(f"{lost_images_message(out, summary.lost)}; they were generated again")
    if summary.left_out:
        print(f"{summary.left_out} more are no part of the run: no token is made for their targets")
    if summary.failed:
        print(f"{summary.failed} failed, the reasons are in their records; --retry-failed generates them again")
        for reason, times in list(summary.reasons.items())[:_SHOWN_REASONS]:
            print(f"  {times} x {printable(reason, 300)}")
    print(f"results: countgen report {printable(out)}")


def _device(options: argparse.Namespace) -> str:
    """Return the device; with a cluster the one that is named is on another machine."""
    return str(options.device) if options.address and options.device else available_device(options.device)


def _engine(options: argparse.Namespace) -> Engine:
    """Return the engine of the command line; Ray is imported only for its engine."""
    if options.engine == "local":
        from countgen.benchmarks.evaluation.engines import local

        return local.attempts
    from countgen.benchmarks.evaluation.engines import ray_cluster

    def attempts(cases: Sequence[Case], settings: RunSettings) -> Iterator[Outcome]:
        return ray_cluster.attempts(cases, settings, workers=options.workers, address=options.address)

    return attempts


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
