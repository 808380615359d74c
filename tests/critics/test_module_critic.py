"""A detector of the user's own, a module or a function, as a critic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from countgen.critics import from_module
from countgen.critics.dynamic_scale import DynamicScaleCritic
from countgen.critics.losses import LOSSES
from tests.contract.pictures import CLASSES, rendered
from tests.contract.tiny_detectors import tiny

pytestmark = pytest.mark.core


class Boxes(nn.Module):
    """A detector of one box per cell of a grid, with class logits and fresh weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Conv2d(3, len(CLASSES), 16, 16)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits = 3 * self.features(images).flatten(2).transpose(1, 2)
        at = torch.arange(images.shape[2] // 16) * 16.0
        top, left = torch.meshgrid(at, at, indexing="ij")
        boxes = torch.stack([left, top, left + 16, top + 16], -1).flatten(0, 1)
        return boxes.expand(len(images), -1, -1), logits


def test_a_dict_names_some_of_the_labels() -> None:
    module, images = Boxes(), rendered(3)
    some, every = from_module(module, {2: "car", 0: "apple"}), from_module(module, CLASSES)
    assert torch.equal(some.counts(images, ["apple", "car"]), every.counts(images, ["apple", "car"]))
    assert every.counts(images, ["apple", "car"]).sum() > 0
    with pytest.raises(ValueError, match="no class for 'dog'"):
        some.counts(images, ["dog"])


@pytest.mark.parametrize("weights_only", [False, True], ids=["none", "of its weights only"])
def test_a_detector_without_gradient_counts_and_judges_and_says_so_when_one_is_needed(weights_only: bool) -> None:
    module = Boxes()

    def detector(images: Tensor) -> tuple[Tensor, Tensor]:
        boxes, logits = module(images.detach())
        return boxes, logits if weights_only else logits.detach()

    critic, images = from_module(detector, CLASSES), rendered(3)
    assert torch.equal(critic.counts(images, CLASSES), from_module(Boxes(), CLASSES).counts(images, CLASSES))
    probe = images.clone().requires_grad_()
    for _ in range(2):
        with pytest.raises(TypeError, match=r"^detector gives no gradient: .* It can count and judge"):
            critic.evaluate(probe, {"apple": 3}, LOSSES["margin"])
    assert critic.has_gradient is False
    # As the detector of a dynamic scale it says how many, and the density map says where.
    scaled = DynamicScaleCritic(critic, tiny("miniature-density")).evaluate(probe, {"apple": 3}, LOSSES["margin"])
    assert torch.equal(scaled.counts, critic.counts(images, ["apple"]))
    scaled.loss.sum().backward()
    assert torch.isfinite(probe.grad).all()


def detections(number: int, label: int) -> Callable[[Tensor], list[dict[str, Tensor]]]:
    """Return a detector of so many boxes of a class in every image."""
    boxes, labels = torch.zeros(number, 4), torch.full((number,), label)
    return lambda images: [{"boxes": boxes, "scores": torch.ones(number), "labels": labels} for _ in images]


def test_an_image_without_any_detection_has_a_constant_loss_and_no_error() -> None:
    probe = rendered(2).clone().requires_grad_()
    evaluation = from_module(detections(0, 0), CLASSES).evaluate(probe, {"apple": 0}, LOSSES["margin"])
    evaluation.loss.sum().backward()
    assert evaluation.counts.tolist() == [[0], [0]]
    assert float(probe.grad.abs().max()) == 0


@pytest.mark.parametrize(
    ("detector", "names", "settings", "help_"),
    [
        (lambda images: images, CLASSES, {}, "a Tensor for 2 images; expected a pair"),
        (lambda images: [{"boxes": images}] * 2, CLASSES, {}, "a list for 2 images; expected"),
        (lambda images: (images[:, 0, :5, :4], images[:, 0, 0, :5]), CLASSES, {}, r"\(2, 5, 4\) and logits \(2, 5\)"),
        (lambda images: (images[:, 0, :5, :4], images[:, 0, :5, :3]), CLASSES, {}, "3 classes, 4 are named"),
        (lambda images: (images[:, 0, :5, :4], images[:, 0, :5, :9]), CLASSES, {}, "9 classes, 4 are named"),
        (detections(1, 8), CLASSES, {}, "the label 8, and 4 classes are named"),
        ("weights.pt", CLASSES, {}, "expected an nn.Module or a function"),
        (Boxes(), "apple", {}, "classes in the order of the labels"),
        (Boxes(), [], {}, "classes in the order of the labels"),
        (Boxes(), CLASSES, {"threshold": 1.5}, "threshold must be a probability"),
    ],
)
def test_what_does_not_fit_is_an_error_that_says_what_is_expected(
    detector: Any, names: Any, settings: dict[str, Any], help_: str
) -> None:
    with pytest.raises(ValueError, match=help_):
        from_module(detector, names, **settings).counts(rendered(2), ["apple"])
