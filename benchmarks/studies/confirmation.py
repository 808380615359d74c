"""What a second look is worth, and how strict it must be: `python -m benchmarks.studies.confirmation`.

Candidates are pictures that the first critic counts right at first sight: plain samples, and the first such picture
of each gradient run, which is where an optimiser has found what its critic overlooks. Every rule (which critics,
which views, what margin) is then asked which of them it confirms; the judge says which are truly right. The margins
that the embedded critics ask for were chosen here, on the tuning seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
import torch
from torch import Tensor

import countgen
from benchmarks.evaluation.statistics import rate
from benchmarks.studies.cases import Case, one_kind
from countgen.noise import NoiseSettings, refine
from countgen.search import SEED_STRIDE
from countgen.step import Budget
from countgen.verdict import CONFIRMING, PLAIN, look
from critics.soft_indicator import margin

MARGINS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)


@dataclass(frozen=True)
class Candidate:
    """A picture that looks right at first sight.

    Attributes:
        optimised: found by gradients.
        right: the judge counts what was asked.
        margins: (critics, views), in logits.
    """

    optimised: bool
    right: bool
    margins: np.ndarray


@torch.no_grad()
def weigh(image: Tensor, case: Case, models: countgen.Models, *, optimised: bool) -> Candidate:
    """Ask every critic on every view, and the judge."""
    (target,) = case.targets
    margins = [
        [
            float(
                margin(look(critic, image, [target.object_name], view)[0], target.target_count, critic.threshold_logit)
            )
            for view in CONFIRMING
        ]
        for critic in models.critics
    ]
    right = int(models.judge.counts(image, [target.object_name])[0, 0]) == target.target_count
    return Candidate(optimised, right, np.array(margins))


def plain_candidate(case: Case, models: countgen.Models, most: int = 24) -> Tensor | None:
    """The first plain sample that the first critic counts right (1, 3, H, W), of at most `most` seeds."""
    (target,) = case.targets
    backbone = models.backbone
    with torch.no_grad():
        embeds = backbone.encode_prompt(case.prompt)
        for first in range(0, most, 6):
            seeds = [case.seed + k * SEED_STRIDE for k in range(first, first + 6)]
            images = backbone.render(backbone.initial_latents(seeds), embeds, seeds)
            right = models.critics[0].counts(images, [target.object_name])[:, 0] == target.target_count
            if right.any():
                return images[right][:1]
    return None


def optimised_candidate(case: Case, models: countgen.Models, most: int = 3) -> Tensor | None:
    """The first picture on a gradient run, after its start, that the first critic counts right (1, 3, H, W)."""
    settings = replace(NoiseSettings(), views=PLAIN, num_optimization_steps=10)
    with torch.no_grad():
        embeds = models.backbone.encode_prompt(case.prompt)
    for k in count():
        seed = case.seed + k * SEED_STRIDE
        latents = models.backbone.initial_latents([seed])
        run = refine(models.backbone, models.critics[:1], embeds, case.targets, latents, [seed], Budget(), settings)
        for step in run:
            if step.counts[0] == case.targets[0].target_count:
                if step.index == 0:
                    break
                return step.image[None]
        if k + 1 == most:
            return None
    return None


def rules(models: countgen.Models) -> list[tuple[str, tuple[int, ...], int]]:
    """Name, critics and number of views of every rule."""
    everyone = tuple(range(len(models.critics)))
    found: list[tuple[str, tuple[int, ...]]] = [(models.critics[0].name, (0,))]
    if len(everyone) > 1:
        found += [(" + ".join(critic.name for critic in models.critics), everyone)]
    return [(f"{name}, {views} view{'s' * (views > 1)}", who, views) for name, who in found for views in (1, 2, 3)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.confirmation", description=__doc__)
    parser.add_argument("--counts", default="2-12", help="first-last")
    parser.add_argument("--pairs", type=int, default=12, help="prompt-seed pairs per count")
    parser.add_argument("--purpose", choices=("reporting", "tuning"), default="tuning")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    first, last = (int(end) for end in options.counts.split("-"))
    models = countgen.load()
    candidates = []
    for case in one_kind(range(first, last + 1), options.pairs, options.purpose):
        for find, optimised in ((plain_candidate, False), (optimised_candidate, True)):
            image = find(case, models)
            if image is not None:
                candidates.append(weigh(image, case, models, optimised=optimised))
    for optimised in (False, True):
        mine = [c for c in candidates if c.optimised == optimised]
        print(f"\n{'Optimised' if optimised else 'Plain'} pictures, {len(mine)} that look right at first sight")
        print(f"right by the judge: {rate([c.right for c in mine])} %\n")
        print("| rule | margin | truly right ones kept % | kept ones that are wrong % |\n| --- | --- | --- | --- |")
        for name, who, views in rules(models):
            for least in MARGINS:
                kept = [c for c in mine if c.margins[list(who), :views].min() > least]
                print(
                    f"| {name} | {least:g} | {rate([any(c is k for k in kept) for c in mine if c.right])} | "
                    f"{rate([not c.right for c in kept])} |"
                )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
