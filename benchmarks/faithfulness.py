"""How faithful the soft count is to the hard count along real runs: `python -m benchmarks.faithfulness`.

For every loss, gradient descent on the noise from the same seeds; every step gives the critic's soft and hard
count of the same forward pass. Also printed: how far the two move together (Pearson), where the runs end, and
how often critic and judge disagree there.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

import countgen
from benchmarks.cases import one_kind
from countgen.noise import NoiseSettings, refine
from countgen.step import Budget, Step
from critics.losses import LOSSES


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faithfulness", description=__doc__)
    parser.add_argument("--pairs", type=int, default=4, help="runs per count and loss")
    parser.add_argument("--counts", default="1-15", help="first-last")
    parser.add_argument("--purpose", choices=("reporting", "tuning"), default="reporting")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    first, last = (int(end) for end in options.counts.split("-"))
    models = countgen.load()
    cases = one_kind(range(first, last + 1), options.pairs, options.purpose)
    print("| loss | steps | mean abs(soft - hard) | Pearson | critic right at the end % | critic and judge differ % |")
    print("| --- | --- | --- | --- | --- | --- |")
    for loss in LOSSES:
        soft, hard, right, differ = [], [], [], []
        for case in cases:
            best: Step | None = None
            with torch.no_grad():
                embeds = models.backbone.encode_prompt(case.prompt)
            latents = models.backbone.initial_latents([case.seed])
            settings = replace(NoiseSettings(), loss=loss)
            steps = refine(
                models.backbone, models.critics, embeds, case.targets, latents, [case.seed], Budget(), settings
            )
            for step in steps:
                soft.append(step.soft_counts[0])
                hard.append(step.counts[0])
                best = step if best is None or step.rank > best.rank else best
            assert best is not None
            target = case.targets[0]
            judged = int(models.judge.counts(best.image[None], [target.object_name])[0, 0])
            right.append(best.counts[0] == target.target_count)
            differ.append(best.counts[0] != judged)
        gap = np.abs(np.array(soft) - np.array(hard)).mean()
        pearson = np.corrcoef(soft, hard)[0, 1]
        print(
            f"| {loss} | {len(soft)} | {gap:.2f} | {pearson:.3f} | {100 * np.mean(right):.0f} | "
            f"{100 * np.mean(differ):.0f} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
