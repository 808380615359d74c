"""Density maps as critics, and a detector's count with a density map's gradient."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from countgen.critics.base import Critic
from countgen.critics.candidates import Proposals
from countgen.critics.detectors.density import DensityCritic
from countgen.critics.dynamic_scale import DynamicScaleCritic
from countgen.critics.losses import LOSSES, dynamic_scale
from countgen.critics.networks.density import DensityCounter

pytestmark = pytest.mark.core
NAMES = ("apple", "dog")


class Stripes(Critic):
    """Detects an apple in every column of pixels brighter than a half, without gradient."""

    object_names = NAMES

    def __init__(self, name: str) -> None:
        self.name = name
        self.configure(nms_iou=None)

    def propose(self, images: Tensor, object_names: Sequence[str]) -> Proposals:
        logits = (images.detach().mean((1, 2)) - 0.5) * 8
        both = torch.stack([logits, torch.full_like(logits, -9)], -1)
        columns = tuple(self.column(name) for name in object_names)
        return Proposals(images.new_zeros(*logits.shape, 4), both, columns)


@pytest.fixture(scope="module")
def counter() -> DensityCritic:
    torch.manual_seed(0)
    network = DensityCounter(len(NAMES))
    with torch.no_grad():
        network.head.weight *= 30
        network.head.bias += 4
    return DensityCritic(network, NAMES)


def test_a_density_critic_counts_the_sum_of_its_map_and_has_no_candidates(counter: DensityCritic) -> None:
    brightest = torch.linspace(0, 1, 8)[:, None, None, None]
    images = torch.rand(8, 3, 64, 48, generator=torch.Generator().manual_seed(0)) * brightest
    sums = counter.model(images).sum((2, 3))
    evaluation = counter.evaluate(images, {"dog": 2, "apple": 1}, LOSSES["margin"])
    torch.testing.assert_close(evaluation.soft_counts, sums[:, [1, 0]])
    assert torch.equal(evaluation.counts, sums[:, [1, 0]].round().long())
    assert torch.equal(counter.counts(images, ["dogs", "apple"]), evaluation.counts)
    torch.testing.assert_close(evaluation.loss, (sums[:, 1] - 2).abs() + (sums[:, 0] - 1).abs())
    with pytest.raises(TypeError, match="counts without detecting"):
        counter.candidates(images, ["apple"])
    # The margin is positive where the rounded sum is right, and at least 1 where the sum is near.
    for target_count in range(40):
        margin = counter.evaluate(images, {"apple": target_count}, LOSSES["margin"]).margin
        assert torch.equal(margin > 0, sums[:, 0].round() == target_count)
        assert torch.equal(margin >= 1, (sums[:, 0] - target_count).abs() <= counter.safe_distance)


@pytest.mark.parametrize("count", [0, 1, 6])
def test_the_value_is_the_detectors_and_the_gradient_the_density_maps(counter: DensityCritic, count: int) -> None:
    critic = DynamicScaleCritic(Stripes("stripes"), counter)
    images = torch.full((1, 3, 16, 16), 0.2)
    images[..., :count] = 0.9
    images.requires_grad_(True)
    evaluation = critic.evaluate(images, {"apple": 9}, LOSSES["margin"])
    assert evaluation.counts.tolist() == evaluation.soft_counts.tolist() == [[count]]
    assert evaluation.loss.tolist() == [9 - count]
    (gradient,) = torch.autograd.grad(evaluation.loss.sum(), images)
    total = counter.maps(images, ["apple"]).sum((1, 2, 3))
    (expected,) = torch.autograd.grad((total / dynamic_scale(total, torch.tensor([count]))).sum(), images)
    torch.testing.assert_close(gradient, -expected)
    assert gradient.abs().max() > 0


def test_a_dynamic_scale_is_of_both_families_and_knows_what_both_know_each_by_its_own_words(
    counter: DensityCritic,
) -> None:
    detector = Stripes("small")
    detector.object_names = ("cup", "dogs")
    critic = DynamicScaleCritic(detector, counter)
    assert critic.families == {"Stripes", "density"}
    assert critic.object_names == ("dog",)
    assert critic.column("dogs") == 0
    with pytest.raises(ValueError, match="no class"):
        critic.column("apple")
    detector.object_names = None
    assert DynamicScaleCritic(detector, counter).object_names == counter.object_names
