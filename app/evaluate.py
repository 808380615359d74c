"""`countgen eval`: compare methods and backbones on a suite of prompts; the same command resumes."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from countgen import miniature
from countgen.app.arguments import DEFAULT_MAX_EVALUATIONS, DEFAULT_METHODS, Evaluate
from countgen.app.exit_codes import NOT_REACHED, OK
from countgen.app.options import names
from countgen.benchmarks.evaluation.engines import local
from countgen.benchmarks.evaluation.generation import Generation
from countgen.benchmarks.evaluation.image_files import lost_images_message
from countgen.benchmarks.evaluation.judge_images import judge_images, read_list, settings_of
from countgen.benchmarks.evaluation.models import recorded_model, run_detectors
from countgen.benchmarks.evaluation.plan import RunSettings, suite_digest
from countgen.benchmarks.evaluation.rejudge import rejudge
from countgen.benchmarks.evaluation.run import Engine, Summary, evaluate
from countgen.files.printable import printable
from countgen.models import check_detectors

_SHOWN_REASONS = 3


Done = tuple[list[str], Path, dict[str, Any], int]
"""What was done in lines, the folder of the run, a summary, and how many images failed."""


def run(command: Evaluate) -> int:
    """Evaluate, or let judges count what is there, and print what was done."""
    if command.rejudge:
        lines, folder, summary, failed = _rejudge(command, command.rejudge)
    elif command.out and command.images:
        lines, folder, summary, failed = _judge_images(command, command.images, command.out)
    elif command.suite and command.out:
        lines, folder, summary, failed = _evaluate(command, command.suite, command.out)
    else:
        raise ValueError("give --suite and --out, --images and --out, or --rejudge RUN with judges for a finished run")
    if command.json:
        print(json.dumps({"run": str(folder), **summary}))
    else:
        print("\n".join(map(printable, [*lines, f"results: countgen report {folder}"])))
    return NOT_REACHED if failed else OK


def _evaluate(command: Evaluate, suite: str, out: Path) -> Done:
    settings = run_settings(command, suite)
    if command.address is None:  # with a cluster the detectors' files are on other machines
        check_detectors((*settings.critics, *settings.judges))
    summary = evaluate(settings, out, _engine(command), retry_failed=command.retry_failed, quiet=not command.text)
    return list(_lines(summary, out)), out, asdict(summary), summary.failed


def run_settings(command: Evaluate, suite: str) -> RunSettings:
    """Return the settings of the run."""
    models = [recorded_model(model) for model in names([command.model or "miniature"])]
    backbones = tuple(name for name, _ in models)
    critics, judges, chosen = run_detectors(backbones, suite, command.critic, command.judge)
    if chosen and command.text:
        print(printable(f"detectors: {chosen}"), flush=True)
    unlimited = command.max_evaluations is None and command.max_seconds is None
    same = ("limit", "max_seconds", "first_seed", "shard", "threads", "trust_checkpoint")
    return RunSettings(
        **{name: getattr(command, name) for name in same},
        suite=suite,
        suite_sha256=suite_digest(suite),
        backbones=backbones,
        methods=names([command.methods or DEFAULT_METHODS]),
        critics=critics,
        judges=judges,
        max_evaluations=DEFAULT_MAX_EVALUATIONS if unlimited else command.max_evaluations,
        seeds_per_prompt=command.seeds,
        # With a cluster the device that is named is on another machine.
        device=command.device if command.address and command.device else command.available_device(),
        method_settings=tuple(command.set or ()),
        sources=tuple(source for _, source in models),
        generation=Generation(
            **command.model_options,
            negative_prompt=command.negative_prompt,
            calibration=str(command.calibration) if command.calibration else None,
        ),
    )


def _rejudge(command: Evaluate, folder: Path) -> Done:
    if command.suite or command.out or command.images:
        raise ValueError("--rejudge generates nothing: leave --suite and --out away")
    summary = rejudge(
        folder,
        command.judge or (),
        device=command.available_device(),
        threads=command.threads,
        batch_size=command.batch_size,
        trust_checkpoint=command.trust_checkpoint,
        quiet=not command.text,
    )
    lines = [
        f"{name}: {number} of {summary.images} images, {summary.abstained[name]} without an answer"
        for name, number in summary.judged.items()
    ]
    reasons = [f"  not judged: {name}: {reason}" for name, reason in summary.unread.items()]
    more = [f"  and {len(reasons) - _SHOWN_REASONS} more"] if len(reasons) > _SHOWN_REASONS else []
    return [*lines, *reasons[:_SHOWN_REASONS], *more], folder, asdict(summary), len(reasons)


def _judge_images(command: Evaluate, path: Path, folder: Path) -> Done:
    judges = command.judge or list(dict.fromkeys((miniature.JUDGE, *miniature.DETECTORS)))
    given = read_list(path, judges, command.methods or "given", command.model or "unknown")
    same = {name: getattr(command, name) for name in ("threads", "shard", "trust_checkpoint")}
    settings = settings_of(path, given, judges, device=command.available_device(), **same)
    summary = judge_images(given, settings, folder, retry_failed=command.retry_failed, quiet=not command.text)
    lines = [f"{summary.done} of {summary.total} images are judged in {folder}"]
    if summary.failed:
        lines.append(f"{summary.failed} failed, the reasons are in their records; --retry-failed judges them again")
    return lines, folder, {name: getattr(summary, name) for name in ("total", "done", "failed")}, summary.failed


def _engine(command: Evaluate) -> Engine:
    """Return the engine; Ray is imported only for its engine."""
    if command.engine == "local":
        return local.attempts
    from countgen.benchmarks.evaluation.engines import ray_cluster

    return partial(ray_cluster.attempts, workers=command.workers, address=command.address)


def _lines(summary: Summary, out: Path) -> Iterator[str]:
    yield f"{summary.done} of {summary.total} images are in {out}"
    if summary.earlier:
        yield f"{summary.earlier} were there before"
    if summary.lost:
        yield f"{lost_images_message(out, summary.lost)}; they were generated again"
    if summary.left_out:
        yield f"{summary.left_out} more are not in the run: no token exists for their targets"
    if summary.failed:
        yield f"{summary.failed} failed, the reasons are in their records; --retry-failed generates them again"
        for reason, times in list(summary.reasons.items())[:_SHOWN_REASONS]:
            yield f"  {times} x {reason}"
