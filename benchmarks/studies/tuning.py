"""The choice of the methods' settings: `python -m benchmarks.studies.tuning [SWEEP ...]`.

One setting is changed at a time, on seeds that nothing is ever reported on; the evaluator runs each variant. The score
is the judge's: right images within the same budget of model evaluations, and how much of it was spent. A busy machine
changes nothing.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.evaluation import arms
from benchmarks.evaluation.metrics import is_right
from benchmarks.evaluation.plan import Case as PlannedCase
from benchmarks.evaluation.plan import RunSettings, code_version, suite_digest
from benchmarks.evaluation.records import read_run
from benchmarks.evaluation.run import evaluate
from benchmarks.evaluation.statistics import rate
from benchmarks.evaluation.worker import Outcome, Worker
from benchmarks.studies.cases import Case, one_class
from countgen import miniature
from critics import Critic

Critics = tuple[Critic, ...]


@dataclass(frozen=True)
class Variant:
    """One row of a sweep.

    Attributes:
        method: of the arm.
        settings: as "NAME=VALUE".
        critics: returns what steers in place of the loaded critics.
    """

    method: str
    settings: tuple[str, ...] = ()
    critics: Callable[[Critics], Critics] = lambda loaded: loaded


def _noise(*settings: str) -> Variant:
    return Variant("noise", settings)


def _safe_distances(*distances: float) -> Variant:
    """`auto` with as many of the critics as distances are given."""

    def changed(loaded: Critics) -> Critics:
        return _copies(loaded[: len(distances)], "safe_distance", distances)

    return Variant("auto", critics=changed)


def _steepness(loss: str, steepness: float) -> Variant:
    """Refinement alone, by a loss that has an indicator in it."""

    def changed(loaded: Critics) -> Critics:
        return _copies(loaded, "steepness", [steepness] * len(loaded))

    return Variant("noise", (f"loss={loss}",), changed)


def _copies(loaded: Critics, name: str, values: Sequence[float]) -> Critics:
    copies = tuple(map(copy.copy, loaded))
    for critic, value in zip(copies, values, strict=True):
        setattr(critic, name, value)
    return copies


SWEEPS: dict[str, dict[str, Variant]] = {
    "loss": {loss: _noise(f"loss={loss}") for loss in ("l1", "d2d", "margin")},
    **{
        f"steepness of {loss}": {f"steepness {slope:g}": _steepness(loss, slope) for slope in (2, 4, 8, 16)}
        for loss in ("l1", "d2d")
    },
    "optimizer": {
        **{f"adam {rate:g}": _noise(f"learning_rate={rate}") for rate in (0.02, 0.04, 0.08, 0.16)},
        **{f"sgd {rate:g}": _noise("optimizer=sgd", f"learning_rate={rate}") for rate in (0.5, 2, 5)},
    },
    "prior": {f"prior {weight:g}": _noise(f"prior_weight={weight}") for weight in (0, 0.01, 0.1, 1)},
    "prior power": {f"power {power:g}": _noise(f"prior_power={power}") for power in (1, 10, 100)},
    "parametrisation": {
        "latents": _noise(),
        "latents, sgd 2": _noise("optimizer=sgd", "learning_rate=2"),
        **{
            f"lmn {rate:g}": Variant("lmn", (f"learning_rate={rate}", "prior_power=1"))
            for rate in (3e-4, 1e-3, 3e-3, 1e-2)
        },
        "lmn, sgd 0.001": Variant("lmn", ("optimizer=sgd", "learning_rate=0.001", "prior_power=1")),
        "lmn 0.001, prior 10": Variant("lmn", ("learning_rate=0.001", "prior_power=10")),
    },
    "clip": {f"norm {norm:g}": _noise(f"max_grad_norm={norm}") for norm in (0.1, 1, 10, 100)},
    "safe distances": {
        " + ".join(f"{distance:g}" for distance in distances): _safe_distances(*distances)
        for distances in ((0.85,), (1.5,), (0.5, 0.25), (0.85, 0.1), (1.2, 0.05))
    },
    "batch": {
        f"first {a}, then {b}": Variant("search", (f"first_batch_size={a}", f"batch_size={b}"))
        for a, b in ((2, 4), (4, 8), (8, 8))
    },
    "searches": {f"{n} before refining": Variant("auto", (f"num_searches={n}",)) for n in (1, 2, 3, 5)},
    "refined": {f"{n} together": Variant("auto", (f"num_refined={n}",)) for n in (1, 2, 3, 4)},
    "steps": {f"{n} steps": Variant("auto", (f"refinement.num_optimization_steps={n}",)) for n in (4, 8, 12, 16)},
}


def write_suite(cases: Sequence[Case], path: Path) -> None:
    """Write cases as a suite that the evaluator reads, each with its own seed."""
    rows = [
        {
            "prompt": case.prompt,
            "targets": {target.object_name: target.target_count for target in case.targets},
            "tags": {"seed": str(case.seed)},
        }
        for case in cases
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def score(variant: Variant, suite: Path, evaluations: int, threads: int) -> str:
    """Return the cells of a row: right by the judge, and the evaluations spent.

    Raises:
        RuntimeError: a case failed.
    """
    settings = RunSettings(
        suite=str(suite),
        suite_sha256=suite_digest(str(suite)),
        limit=None,
        backbones=("miniature",),
        methods=(variant.method,),
        critics=miniature.CRITICS,
        judges=(miniature.JUDGE,),
        max_evaluations=evaluations,
        max_seconds=None,
        first_seed=0,
        seeds_per_prompt=1,
        shard="1/1",
        device="cpu",
        threads=threads,
        code=code_version(),
        method_settings=arms.canonical((variant.method,), [f"{variant.method}.{one}" for one in variant.settings]),
    )

    def attempts(cases: Sequence[PlannedCase], settings: RunSettings) -> Iterator[Outcome]:
        worker = Worker(settings, "miniature")
        worker.models = replace(worker.models, critics=variant.critics(worker.models.critics))
        yield from map(worker.attempt, cases)

    with tempfile.TemporaryDirectory() as folder:
        summary = evaluate(settings, folder, attempts, quiet=True)
        if summary.failed:
            raise RuntimeError(f"{summary.failed} images failed: {', '.join(summary.reasons)}")
        records = read_run(folder)[1]
    right = [is_right(record, miniature.JUDGE) for record in records]
    return f"{rate(right)} | {statistics.mean(record.evaluations for record in records):.0f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.tuning", description=__doc__)
    parser.add_argument("sweeps", nargs="*", metavar="SWEEP", help=f"of {', '.join(SWEEPS)}; all by default")
    parser.add_argument("--pairs", type=int, default=4, help="prompt-seed pairs per count")
    parser.add_argument("--counts", default="4-15", help="first-last")
    parser.add_argument("--evaluations", type=int, default=60, help="budget of an image; a gradient costs three")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    unknown = [name for name in options.sweeps if name not in SWEEPS]
    if unknown:
        parser.error(f"unknown sweep {', '.join(unknown)}; available: {', '.join(SWEEPS)}")
    first, last = (int(end) for end in options.counts.split("-"))
    with tempfile.TemporaryDirectory() as folder:
        suite = Path(folder) / "tuning.jsonl"
        write_suite(one_class(range(first, last + 1), options.pairs, "tuning"), suite)
        for name in options.sweeps or SWEEPS:
            print(f"\n| {name} | right by the judge % [95 %] | evaluations |\n| --- | --- | --- |")
            for label, variant in SWEEPS[name].items():
                print(f"| {label} | {score(variant, suite, options.evaluations, options.threads)} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
