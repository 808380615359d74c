"""Calibration of the density counter: scale each object's map so that its sum is its count.

The largest part of the network's error is a constant factor per object class. The factor is measured on rendered scenes
of that class, and its logarithm is added to the bias of the last layer. The density stage ends with it; for trained
weights, this command changes a file in place: `python -m countgen.miniature.training.density_calibration FILE`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from countgen.critics.networks import density
from countgen.critics.weights import rebuild, write
from countgen.miniature.world import BACKGROUNDS, OBJECT_NAMES, Scene, load_sprites, render

MOST = 12
"""The largest count of a scene; with more objects, the factor would also correct for hidden ones."""
SCENES = 120
"""The number of scenes per object class."""
SEED = 90_001
_AT_ONCE = 60


@torch.no_grad()
def calibrate(counter: density.DensityCounter, scenes: int = SCENES) -> Tensor:
    """Scale the maps of a counter in eval mode, in place.

    Returns:
        The factor of each object's map, (C,): the true count divided by the sum of the map.
    """
    bias = counter.head.bias
    assert bias is not None
    device = bias.device
    rng, generator = np.random.default_rng(SEED), torch.Generator(device).manual_seed(SEED)
    sprites = load_sprites(device)
    counts = [1 + index % MOST for index in range(scenes)]
    factors = []
    for kind in range(len(OBJECT_NAMES)):
        rows = [Scene(((kind, count),), int(rng.integers(len(BACKGROUNDS)))) for count in counts]
        images = render(rows, sprites, generator).images.split(_AT_ONCE)
        found = sum(float(counter(part)[:, kind].sum()) for part in images)
        factors.append(sum(counts) / max(found, 1.0))
    scale = torch.tensor(factors, device=device)
    bias += scale.log()
    return scale


def main(arguments: Sequence[str] | None = None) -> None:
    """Calibrate the weights in a file and print the factors."""
    parser = argparse.ArgumentParser(
        prog="python -m countgen.miniature.training.density_calibration", description=__doc__
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="weights of a density counter, changed in place")
    file = parser.parse_args(arguments).file
    trained, object_names, noted = rebuild(file, density.build)
    scale = calibrate(trained.eval())
    write(file, trained.state_dict(), object_names, noted)
    print(" ".join(f"{name} {factor:.3f}" for name, factor in zip(object_names, scale.tolist(), strict=True)))


if __name__ == "__main__":
    main()
