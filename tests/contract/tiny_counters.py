"""Small untrained counters: our own detector and density map, and a critic made of both."""

from __future__ import annotations

import torch

from countgen.critics import Critic
from tests.contract.pictures import CLASSES, enliven


def centernet() -> Critic:
    from countgen.critics.detectors.centernet import CenterNet, CenterNetCritic

    torch.manual_seed(0)
    return enliven(CenterNetCritic(CenterNet(len(CLASSES)), CLASSES), "head.1.weight", 30.0)


def density() -> Critic:
    from countgen.critics.detectors.density import DensityCritic
    from countgen.critics.networks.density import DensityCounter

    torch.manual_seed(0)
    counter = DensityCounter(len(CLASSES))
    with torch.no_grad():
        counter.head.weight *= 30
        counter.head.bias += 3
    return DensityCritic(counter, CLASSES)


def dynamic_scale() -> Critic:
    from countgen.critics.dynamic_scale import DynamicScaleCritic

    return DynamicScaleCritic(centernet(), density())
