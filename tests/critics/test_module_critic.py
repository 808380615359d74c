"""A detector of the user's own, a module or a function, as a critic."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from countgen.critics import Critic, from_module
from countgen.critics.dynamic_scale import DynamicScaleCritic
from countgen.critics.losses import LOSSES
from tests.contract.pictures import CLASSES, rendered
from tests.contract.tiny_detectors import tiny, torchvision_detector

pytestmark = pytest.mark.core
NAMES = ("__background__", *CLASSES)


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


def as_a_user_gives_it(critic: Any) -> Critic:
    """The torchvision detector inside a critic of the contract suite, with its own threshold and suppression."""
    settings = {"threshold": critic.settings.threshold, "nms_iou": critic.settings.nms_iou}
    return from_module(critic.model, NAMES, max_count=2000, **settings)


def test_a_module_of_torchvisions_form_counts_as_its_own_detections() -> None:
    stock: Any = torchvision_detector("FasterRCNN")
    critic, images = as_a_user_gives_it(stock), rendered(6)
    with torch.no_grad():
        detections = stock.model(list(images))
    kept = [image["labels"][image["scores"] > critic.settings.threshold] for image in detections]
    expected = [[int((labels == label).sum()) for label in range(1, len(NAMES))] for labels in kept]
    assert critic.counts(images, CLASSES).tolist() == expected
    assert len({counts[0] for counts in expected}) > 1
    assert critic.object_names == CLASSES


def test_the_gradient_through_a_modules_detections_equals_finite_differences() -> None:
    stock: Any = copy.deepcopy(torchvision_detector("RetinaNet"))
    stock.model.double()
    critic, images = as_a_user_gives_it(stock), rendered(2).double()

    def loss(images: Tensor) -> Tensor:
        return critic.evaluate(images, {"apple": 12}, LOSSES["margin"]).loss.sum()

    probe = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(probe), probe)
    along = torch.randn(images.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        slope = (loss(images + 1e-8 * along) - loss(images - 1e-8 * along)) / 2e-8
    assert float((gradient * along).sum()) == pytest.approx(float(slope), rel=1e-3)
    assert critic.has_gradient is True  # type: ignore[attr-defined]


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
        (lambda images: images, CLASSES, {}, r"a tensor \(2, 3, 128, 128\) for 2 images; expected a pair"),
        (lambda images: [{"boxes": images}] * 2, CLASSES, {}, r"a list of 2 \(a dict of boxes first\)"),
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
