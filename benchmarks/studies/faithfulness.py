"""How faithful the soft count is to the hard count along real runs: `python -m benchmarks.studies.faithfulness`.

For every loss, gradient descent on the noise from the same seeds; at every step each steering critic gives its soft and
hard count of the same forward pass. The intervals resample whole runs, whose steps are alike. Also printed: how far the
two move together (Pearson), where the runs end, and how often critic and judge differ on the count there.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

import countgen
from benchmarks.evaluation.statistics import cluster_bootstrap, rate
from benchmarks.studies.cases import Case, one_class
from countgen.methods.problem import Problem
from countgen.methods.refinement import RefinementSettings, refine
from countgen.methods.step import Budget
from critics.losses import LOSSES


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.faithfulness", description=__doc__)
    parser.add_argument("--pairs", type=int, default=10, help="runs per count and loss")
    parser.add_argument("--losses", nargs="+", default=list(LOSSES), choices=list(LOSSES))
    parser.add_argument("--counts", default="1-15", help="first-last")
    parser.add_argument("--purpose", choices=("reporting", "tuning"), default="reporting")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    first, last = (int(end) for end in options.counts.split("-"))
    models = countgen.load()
    cases = one_class(range(first, last + 1), options.pairs, options.purpose)
    print("| loss | critic | runs | steps | mean abs(soft - hard) [95 %] | Pearson | right at the end % | differ % |")
    print("| --- " * 8 + "|")
    for loss in options.losses:
        for name, runs in transposed([followed(case, models, loss) for case in cases]).items():
            soft = np.array([value for run in runs for value in run.soft])
            hard = np.array([value for run in runs for value in run.hard])
            owner = [index for index, run in enumerate(runs) for _ in run.soft]
            gaps = np.abs(soft - hard)
            low, high = cluster_bootstrap(gaps, owner)
            varied = soft.std() > 0 and hard.std() > 0
            pearson = f"{np.corrcoef(soft, hard)[0, 1]:.3f}" if varied else "-"
            print(
                f"| {loss} | {name} | {len(runs)} | {len(soft)} | {gaps.mean():.3f} [{low:.3f}, {high:.3f}] | "
                f"{pearson} | {rate([run.right for run in runs])} | "
                f"{rate([run.differ for run in runs])} |",
                flush=True,
            )
    return 0


@dataclass(frozen=True)
class Followed:
    """One run, by one of the critics that steered it.

    Attributes:
        soft, hard: its counts at every step.
        right: it counts right in the end.
        differ: the judge counts otherwise there.
    """

    soft: list[float]
    hard: list[int]
    right: bool
    differ: bool


def transposed(runs: Sequence[dict[str, Followed]]) -> dict[str, list[Followed]]:
    """Return every run by each critic."""
    return {name: [run[name] for run in runs] for name in runs[0]}


def followed(case: Case, models: countgen.Models, loss: str) -> dict[str, Followed]:
    """Descend from a case's noise, and return what each critic counts at every step."""
    with torch.no_grad():
        embeds = models.backbone.encode_prompt(case.prompt)
    problem = Problem(models.backbone, models.critics, case.targets, embeds)
    latents = models.backbone.initial_latents([case.seed])
    steps = list(refine(problem, latents, [case.seed], Budget(), RefinementSettings(loss=loss)))
    best = max(steps, key=lambda step: step.rank)
    (target,) = case.targets
    judged = int(models.judge.counts(best.image[None], [target.object_name])[0, 0])
    found = {}
    for critic in models.critics:
        with torch.no_grad():
            asked = {target.object_name: target.target_count}
            evaluations = [critic.evaluate(step.image[None], asked, LOSSES[loss]) for step in (*steps, best)]
        soft = [float(one.soft_counts) for one in evaluations]
        *hard, end = (int(one.counts) for one in evaluations)
        found[critic.name] = Followed(soft[:-1], hard, end == target.target_count, end != judged)
    return found


if __name__ == "__main__":
    raise SystemExit(main())
