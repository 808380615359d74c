"""A detector's count with a density map's gradient."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from countgen.critics.base import Critic
from countgen.critics.candidates import Proposals
from countgen.critics.detectors.density import DensityCritic
from countgen.critics.dynamic_scale import DynamicScaleCritic
from countgen.critics.losses import LOSSES, density, dynamic_scale
from countgen.critics.networks.density import build

pytestmark = pytest.mark.core

NAMES = ("apple", "dog")


class Stripes(Critic):
    """Finds an apple in every column of pixels brighter than a half; a hand-made detector."""

    object_names = NAMES
    nms_iou = None
    safe_distance = 0.2

    def __init__(self, name: str, gain: float = 8.0, differentiable: bool = True) -> None:
        self.name = name
        self.gain = gain
        self.differentiable = differentiable

    def propose(self, images: Tensor, object_names: Sequence[str]) -> Proposals:
        columns = tuple(self.column(name) for name in object_names)
        if not self.differentiable:
            images = images.detach()
        logits = (images.mean((1, 2)) - 0.5) * self.gain
        both = torch.stack([logits, torch.full_like(logits, -9)], -1)
        return Proposals(images.new_zeros(*logits.shape, 4), both, columns)


def picture(count: int) -> Tensor:
    image = torch.full((1, 3, 16, 16), 0.2)
    image[..., :count] = 0.9
    return image


@pytest.fixture(scope="module")
def counter() -> DensityCritic:
    torch.manual_seed(0)
    network = build(len(NAMES))
    with torch.no_grad():
        network.head.weight *= 30
        network.head.bias += 4
    return DensityCritic(network, NAMES)


def test_a_dynamic_scale_is_of_both_families_and_grows_with_its_detector(counter: DensityCritic) -> None:
    dynamic = DynamicScaleCritic(Stripes("a"), counter)
    assert dynamic.families == {"Stripes", "density"}
    assert dynamic.at_scale(1.125) is dynamic
    growing = Stripes("b")
    growing.at_scale = lambda factor: Stripes("b, larger")  # type: ignore[method-assign]
    assert DynamicScaleCritic(growing, counter).at_scale(1.125).detector.name == "b, larger"  # type: ignore[attr-defined]


def test_a_density_critic_counts_the_sum_of_its_map(counter: DensityCritic) -> None:
    images = torch.rand(3, 3, 64, 48, generator=torch.Generator().manual_seed(0))
    sums = counter.counter(images).sum((2, 3))
    found = counter.evaluate(images, {"dog": 2, "apple": 1}, LOSSES["margin"])
    torch.testing.assert_close(found.soft_counts, sums[:, [1, 0]])
    assert torch.equal(found.counts, sums[:, [1, 0]].round().long())
    assert torch.equal(counter.counts(images, ["dogs", "apple"]), found.counts)
    torch.testing.assert_close(found.loss, (sums[:, 1] - 2).abs() + (sums[:, 0] - 1).abs())


def test_a_density_margin_is_positive_where_the_rounded_sum_is_right_and_1_where_it_is_near(
    counter: DensityCritic,
) -> None:
    images = (
        torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(1))
        * torch.linspace(0, 1, 8)[:, None, None, None]
    )
    sums = counter.counter(images).sum((2, 3))[:, 0]
    for target_count in range(int(sums.max()) + 2):
        margin = counter.evaluate(images, {"apple": target_count}, LOSSES["margin"]).margin
        torch.testing.assert_close(margin > 0, sums.round() == target_count)
        torch.testing.assert_close(margin >= 1, (sums - target_count).abs() <= counter.safe_distance)


def test_a_density_critic_has_no_candidates(counter: DensityCritic) -> None:
    with pytest.raises(TypeError, match="counts without detecting"):
        counter.candidates(picture(1), ["apple"])


def test_the_density_loss_is_the_distance_of_the_scaled_sum() -> None:
    total = torch.tensor([12.0, 3.0], requires_grad=True)
    value = density(total, 5, torch.tensor([2.0, 1.0]))
    assert value.tolist() == [1, 2]
    assert torch.autograd.grad(value.sum(), total)[0].tolist() == [0.5, -1]


@pytest.mark.parametrize(
    ("total", "count", "expected"),
    [(12.0, 4, 3.0), (2.0, 8, 0.25), (0.0, 5, 0.1), (7.0, 0, 1.0), (0.0, 0, 1.0)],
)
def test_the_dynamic_scale_never_divides_by_zero(total: float, count: int, expected: float) -> None:
    scale = dynamic_scale(torch.tensor([total]), torch.tensor([count]))
    assert scale.item() == pytest.approx(expected)


@pytest.mark.parametrize("count", [0, 1, 6])
def test_the_value_is_the_detectors_and_the_gradient_the_density_maps(counter: DensityCritic, count: int) -> None:
    detector = Stripes("stripes", differentiable=False)
    critic = DynamicScaleCritic(detector, counter)
    images = picture(count).requires_grad_(True)
    found = critic.evaluate(images, {"apple": 9}, LOSSES["margin"])
    assert found.counts.tolist() == [[count]]
    assert found.soft_counts.detach().tolist() == [[count]]
    assert found.loss.tolist() == [9 - count]
    (gradient,) = torch.autograd.grad(found.loss.sum(), images)
    total = counter.maps(images, ["apple"]).sum((1, 2, 3))
    scale = dynamic_scale(total, torch.tensor([count]))
    (expected,) = torch.autograd.grad((total / scale).sum(), images)
    torch.testing.assert_close(gradient, -expected)
    assert gradient.abs().max() > 0


def test_a_dynamic_scale_knows_what_both_know_each_by_its_own_words(counter: DensityCritic) -> None:
    detector = Stripes("stripes")
    detector.object_names = ("cup", "dogs")
    critic = DynamicScaleCritic(detector, counter)
    assert critic.object_names == ("dog",)
    assert critic.column("dogs") == 0
    with pytest.raises(ValueError, match="no class"):
        critic.column("apple")
    detector.object_names = None
    assert DynamicScaleCritic(detector, counter).object_names == counter.object_names


def test_descent_by_a_density_map_reaches_a_blind_detectors_count() -> None:
    class Bright(DensityCritic):
        """Its density is brightness."""

        def maps(self, images: Tensor, object_names: Sequence[str]) -> Tensor:
            return images.mean((1, 2), keepdim=True).relu().expand(-1, len(object_names), -1, -1)

    critic = DynamicScaleCritic(Stripes("stripes", differentiable=False), Bright(build(2), NAMES))
    ramp = torch.linspace(0.0, 0.48, 16).expand(1, 3, 16, 16)
    images = ramp.clone().requires_grad_(True)
    optimizer = torch.optim.SGD([images], lr=0.3)
    for _ in range(200):
        found = critic.evaluate(images, {"apple": 6}, LOSSES["l1"])
        if found.counts.item() == 6:
            return
        optimizer.zero_grad()
        found.loss.sum().backward()
        optimizer.step()
    pytest.fail(f"stopped at {found.counts.item()}")
