"""How the optimisers' settings were chosen: `python -m benchmarks.studies.tuning [SWEEP ...]`.

One setting is changed at a time, on seeds that nothing is ever reported on. The score is the judge's: right
pictures within the same budget of model evaluations, and what of it was spent. A busy machine changes nothing.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

import countgen
from benchmarks.evaluation.statistics import rate
from benchmarks.studies.cases import Case, one_class
from countgen.methods.auto import AutoSettings, search_and_refine
from countgen.methods.refinement import NoiseSettings, optimize_noise
from countgen.methods.search import SearchSettings, search_seeds
from countgen.methods.step import Budget, Step
from critics import Critic

Optimiser = Callable[..., object]


def _noise(**changes: object) -> Optimiser:
    return partial(optimize_noise, settings=replace(NoiseSettings(), **changes))  # type: ignore[arg-type]


def _search(**changes: object) -> Optimiser:
    return partial(search_seeds, settings=replace(SearchSettings(), **changes))  # type: ignore[arg-type]


def _auto(**changes: object) -> Optimiser:
    return partial(search_and_refine, settings=replace(AutoSettings(), **changes))  # type: ignore[arg-type]


def _auto_noise(**changes: object) -> Optimiser:
    return _auto(noise=replace(AutoSettings().noise, **changes))  # type: ignore[arg-type]


def _margins(*margins: float) -> Optimiser:
    """`auto` with as many of the critics as margins are given."""

    def optimiser(backbone: Any, critics: Sequence[Critic], *rest: Any) -> object:
        asking = [copy.copy(critic) for critic in critics[: len(margins)]]
        for critic, margin in zip(asking, margins, strict=True):
            critic.margin = margin
        return search_and_refine(backbone, asking, *rest)

    return optimiser


def _steepness(loss: str, steepness: float) -> Optimiser:
    """Refinement alone, by a loss that has an indicator in it."""

    def optimiser(backbone: Any, critics: Sequence[Critic], *rest: Any) -> object:
        steeper = [copy.copy(critic) for critic in critics]
        for critic in steeper:
            critic.steepness = steepness
        return _noise(loss=loss)(backbone, steeper, *rest)

    return optimiser


SWEEPS: dict[str, dict[str, Optimiser]] = {
    "loss": {loss: _noise(loss=loss) for loss in ("l1", "d2d", "margin")},
    **{
        f"steepness of {loss}": {f"steepness {slope:g}": _steepness(loss, slope) for slope in (2, 4, 8, 16)}
        for loss in ("l1", "d2d")
    },
    "optimizer": {
        **{f"adam {rate:g}": _noise(learning_rate=rate) for rate in (0.02, 0.04, 0.08, 0.16)},
        **{f"sgd {rate:g}": _noise(optimizer="sgd", learning_rate=rate) for rate in (0.5, 2, 5)},
    },
    "prior": {f"prior {weight:g}": _noise(prior_weight=weight) for weight in (0, 0.01, 0.1, 1)},
    "prior power": {f"power {power:g}": _noise(prior_power=power) for power in (1, 10, 100)},
    "parametrisation": {
        "latents": _noise(),
        "latents, sgd 2": _noise(optimizer="sgd", learning_rate=2),
        **{f"lmn {rate:g}": _noise(parametrisation="lmn", learning_rate=rate) for rate in (3e-4, 1e-3, 3e-3, 1e-2)},
        "lmn, sgd 0.001": _noise(parametrisation="lmn", optimizer="sgd", learning_rate=1e-3),
        "lmn 0.001, prior 10": _noise(parametrisation="lmn", learning_rate=1e-3, prior_power=10),
    },
    "clip": {f"norm {norm:g}": _noise(max_grad_norm=norm) for norm in (0.1, 1, 10, 100)},
    "margins": {
        " + ".join(f"{margin:g}" for margin in margins): _margins(*margins)
        for margins in ((0.85,), (1.5,), (0.5, 0.25), (0.85, 0.1), (1.2, 0.05))
    },
    "batch": {f"first {a}, then {b}": _search(first_batch_size=a, batch_size=b) for a, b in ((2, 4), (4, 8), (8, 8))},
    "searches": {f"{number} before refining": _auto(num_searches=number) for number in (1, 2, 3, 5)},
    "refined": {f"{number} together": _auto(num_refined=number) for number in (1, 2, 3, 4)},
    "steps": {f"{number} steps": _auto_noise(num_optimization_steps=number) for number in (4, 8, 12, 16)},
}


def score(optimiser: Optimiser, cases: Sequence[Case], models: countgen.Models, evaluations: int) -> str:
    """One line: right by the judge, and what it cost."""
    right, spent = [], []
    for case in cases:
        with torch.no_grad():
            embeds = models.backbone.encode_prompt(case.prompt)
        budget = Budget(max_evaluations=evaluations)
        best: Step | None = None
        for step in optimiser(models.backbone, models.critics, embeds, case.targets, case.seed, budget):  # type: ignore[attr-defined]
            best = step if best is None or step.rank > best.rank else best
        assert best is not None
        spent.append(budget.evaluations)
        counts = models.judge.counts(best.image[None], [target.object_name for target in case.targets])[0]
        right.append(counts.tolist() == [target.target_count for target in case.targets])
    return f"{rate(right)} | {statistics.mean(spent):.0f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.tuning", description=__doc__)
    parser.add_argument("sweeps", nargs="*", metavar="SWEEP", help=f"of {', '.join(SWEEPS)}; all by default")
    parser.add_argument("--pairs", type=int, default=4, help="prompt-seed pairs per count")
    parser.add_argument("--counts", default="4-15", help="first-last")
    parser.add_argument("--evaluations", type=int, default=60, help="budget of a picture; a gradient costs three")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    unknown = [name for name in options.sweeps if name not in SWEEPS]
    if unknown:
        parser.error(f"unknown sweep {', '.join(unknown)}; available: {', '.join(SWEEPS)}")
    torch.set_num_threads(options.threads)
    first, last = (int(end) for end in options.counts.split("-"))
    cases = one_class(range(first, last + 1), options.pairs, "tuning")
    models = countgen.load()
    for name in options.sweeps or SWEEPS:
        print(f"\n| {name} | right by the judge % [95 %] | evaluations |\n| --- | --- | --- |")
        for label, optimiser in SWEEPS[name].items():
            print(f"| {label} | {score(optimiser, cases, models, options.evaluations)} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
