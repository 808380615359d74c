"""Whether a noise adapter makes images of a prompt more alike, or worse: `python -m benchmarks.studies.diversity`.

For every prompt, all pairs of seeds: how far their images are apart, by features of the embedded FCOS and by pixels.
Intervals resample prompts. Also the statistics of pixels that the report knows, against the plain images.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import astuple
from itertools import combinations
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import countgen
from benchmarks.evaluation.image_statistics import NAMES, image_statistics
from benchmarks.evaluation.quality import perceptual_distance
from benchmarks.evaluation.statistics import cluster_bootstrap
from benchmarks.studies.learned import HELD_OUT_TEMPLATES
from benchmarks.studies.markdown import table
from benchmarks.studies.tokens import UNSEEN
from countgen.prompts.number_words import number_word
from countgen.prompts.plurals import counted
from critics.detectors.fcos import FCOSCritic

COUNTS = range(6, 13)
FIRST_SEED = 140_000_000
ARMS = {
    "plain": ("plain", 1, False),
    "plain+adapter": ("plain", 2, True),
    "search, the better of two": ("search", 2, False),
}
"""Method, evaluations and whether the adapter is used, by the name of the arm."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.diversity", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="images of each of the 56 prompts, by every arm (5)")
    options = parser.parse_args(arguments)
    if options.seeds < 2:
        parser.error(f"--seeds must be 2 or more, because pairs of images are compared; got {options.seeds}")
    models = countgen.load()
    adapter = countgen.find_adapter("noise", "miniature")
    prompts = [
        template.format(f"{number_word(count)} {counted(name, count)}")
        for count in COUNTS
        for name, template in zip(UNSEEN, HELD_OUT_TEMPLATES * len(UNSEEN), strict=False)
    ]
    # Two seeds apart: the better of two takes the next one too.
    seeds = [[FIRST_SEED + 1000 * place + 2 * k for k in range(options.seeds)] for place in range(len(prompts))]
    rows, plain = [], np.zeros(0)
    for arm, (method, evaluations, adapted) in ARMS.items():
        images = [
            [
                countgen.generate(
                    prompt,
                    models,
                    method=method,
                    seed=seed,
                    max_evaluations=evaluations,
                    adapter=adapter if adapted else None,
                ).image
                for seed in mine
            ]
            for prompt, mine in zip(prompts, seeds, strict=True)
        ]
        statistics = np.array([astuple(image_statistics(eight_bits(image))) for group in images for image in group])
        plain = plain if len(plain) else statistics
        apart = [distances(group, models) for group in images]
        cells = [spread([group[place] for group in apart]) for place in (0, 1)]
        moved = zip(plain.mean(0), statistics.mean(0), plain.std(0, ddof=1), strict=True)
        rows.append((arm, *cells, *(shifted(*one) for one in moved)))
    print(table(("arm", "distance of features", "distance of pixels", *NAMES), rows))
    print("\nIn brackets the change of the mean in standard deviations of the plain images.")
    return 0


def shifted(before: float, mean: float, std: float) -> str:
    """Return a mean with its change in standard deviations, without it where the plain images do not differ."""
    return f"{mean:.3f} ({(mean - before) / std:+.2f})" if std > 0 else f"{mean:.3f}"


def eight_bits(image: Tensor) -> NDArray[np.uint8]:
    """Return an image (3, H, W) in [0, 1] as it is saved, (H, W, 3)."""
    return (image * 255).round().byte().permute(1, 2, 0).numpy()


def distances(images: Sequence[Tensor], models: countgen.Models) -> tuple[list[float], list[float]]:
    """Return the distances of all pairs of images (3, H, W), by features (0 to 4) and the RMS of pixels (0 to 1)."""
    batch = torch.stack([*images])
    features = [list(one) for one in zip(*seen(models, batch), strict=True)]
    pairs = list(combinations(range(len(images)), 2))
    return (
        [perceptual_distance(features[one], features[other]) for one, other in pairs],
        [float((batch[one] - batch[other]).square().mean().sqrt()) for one, other in pairs],
    )


@torch.no_grad()
def seen(models: countgen.Models, images: Tensor) -> list[Tensor]:
    """Return the levels of the judge's feature pyramid for images (B, 3, 128, 128), each (B, h, w, C)."""
    judge = models.judge
    if not isinstance(judge, FCOSCritic):
        raise TypeError(f"the features are those of the embedded FCOS, the judge is {type(judge).__name__}")
    return [level.permute(0, 2, 3, 1) for level in judge.detector.backbone((images - 0.45) / 0.25).values()]


def spread(groups: Sequence[Sequence[float]]) -> str:
    """Return the mean over prompts with its 95 % interval, from which whole prompts are resampled."""
    values = np.array([value for group in groups for value in group])
    owner = [place for place, group in enumerate(groups) for _ in group]
    low, high = cluster_bootstrap(values, owner)
    return f"{fmean(map(fmean, groups)):.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    raise SystemExit(main())
