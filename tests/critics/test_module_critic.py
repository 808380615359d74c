"""A detector of the user's own, a module or a function, as a critic."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from countgen.critics import Critic, from_module
from countgen.critics.dynamic_scale import DynamicScaleCritic
from countgen.critics.losses import LOSSES
from tests.contract.pictures import CLASSES, rendered
from tests.contract.tiny_counters import density
from tests.contract.tiny_detectors import torchvision_detector, yolo

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


def thresholded(critic: Any) -> Critic:
    """torchvision's own detector inside a critic of the contract suite, as a user hands it over."""
    return from_module(
        critic.model, NAMES, threshold=critic.settings.threshold, nms_iou=critic.settings.nms_iou, max_count=2000
    )


@pytest.mark.parametrize("family", ["FasterRCNN", "RetinaNet", "FCOS", "SSD"])
def test_a_module_of_torchvisions_form_counts_as_its_own_detections(family: str) -> None:
    stock = torchvision_detector(family)
    critic, images = thresholded(stock), rendered(8)
    with torch.no_grad():
        found = stock.model(list(images))
    kept = [one["labels"][one["scores"] > critic.settings.threshold] for one in found]
    expected = [[int((labels == label).sum()) for label in range(1, len(NAMES))] for labels in kept]
    counts = critic.counts(images, CLASSES)
    assert counts.tolist() == expected
    assert len(set(counts[:, 0].tolist())) > 1
    assert critic.object_names == CLASSES


@pytest.mark.parametrize("family", ["RetinaNet", "FCOS", "SSD"])
def test_the_gradient_through_a_modules_detections_equals_finite_differences(family: str) -> None:
    stock = copy.deepcopy(torchvision_detector(family))
    stock.model.double()
    critic, images = thresholded(stock), rendered(2).double()
    target = {"apple": 12}
    probe = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(critic.evaluate(probe, target, LOSSES["margin"]).loss.sum(), probe)
    along = torch.randn(images.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        ahead, behind = (
            critic.evaluate(images + step * along, target, LOSSES["margin"]).loss for step in (1e-8, -1e-8)
        )
    assert float((gradient * along).sum()) == pytest.approx(float((ahead - behind).sum()) / 2e-8, rel=1e-3)
    assert critic.has_gradient is True


def test_a_function_to_boxes_and_logits_counts_as_the_critic_it_was_taken_from() -> None:
    tiny = yolo("v8/yolov8.yaml")

    def proposals(images: Tensor) -> tuple[Tensor, Tensor]:
        found = tiny.propose(images, ["apple"])
        return found.boxes, found.logits

    settings = {"threshold": tiny.settings.threshold, "nms_iou": tiny.settings.nms_iou, "one_class_per_box": True}
    critic = from_module(proposals, CLASSES, **settings)
    images = rendered(6)
    counts = critic.counts(images, CLASSES)
    assert torch.equal(counts, tiny.counts(images, CLASSES))
    assert counts.sum() > 0
    gradients = []
    for one in (critic, tiny):
        probe = images.clone().requires_grad_()
        one.evaluate(probe, {"dogs": 4}, LOSSES["margin"]).loss.sum().backward()
        gradients.append(probe.grad)
    torch.testing.assert_close(*gradients)
    assert critic.name == "proposals"


def test_a_label_beyond_the_named_classes_is_refused() -> None:
    found = {"boxes": torch.zeros(1, 4), "scores": torch.ones(1), "labels": torch.tensor([2])}
    critic = from_module(lambda images: [found] * len(images), ("apple", "cat"))
    with pytest.raises(ValueError, match="the label 2, and 2 classes are named"):
        critic.counts(torch.zeros(1, 3, 32, 32), ("apple",))


def test_a_dict_names_some_of_the_labels() -> None:
    module, images = Boxes(), rendered(3)
    some, every = from_module(module, {2: "car", 0: "apple"}), from_module(module, CLASSES)
    assert torch.equal(some.counts(images, ["apple", "car"]), every.counts(images, ["apple", "car"]))
    assert every.counts(images, ["apple", "car"]).sum() > 0
    with pytest.raises(ValueError, match="no class for 'dog'"):
        some.counts(images, ["dog"])


@pytest.mark.parametrize("how", ["no_grad", "detach", "numpy", "of its weights only"])
def test_a_detector_without_gradient_counts_and_judges_and_says_so_when_one_is_asked_for(how: str) -> None:
    module = Boxes()

    def detector(images: Tensor) -> tuple[Tensor, Tensor]:
        if how == "of its weights only":
            return module(images.detach())
        with torch.no_grad():
            boxes, logits = module(images)
        return boxes, torch.from_numpy(logits.numpy().copy()) if how == "numpy" else logits.detach()

    critic, images = from_module(detector, CLASSES, name="mine"), rendered(3)
    assert torch.equal(critic.counts(images, CLASSES), from_module(Boxes(), CLASSES).counts(images, CLASSES))
    value = critic.evaluate(images, {"apple": 3}, LOSSES["margin"])
    assert value.loss.shape == (3,)
    for _ in range(2):
        with pytest.raises(TypeError, match=r"^mine gives no gradient: .* It can count and judge"):
            critic.evaluate(images.clone().requires_grad_(), {"apple": 3}, LOSSES["margin"])
    assert critic.has_gradient is False
    # As the detector of a dynamic scale it says how many, and the density map says where.
    probe = images.clone().requires_grad_()
    scaled = DynamicScaleCritic(critic, density()).evaluate(probe, {"apple": 3}, LOSSES["margin"])
    assert scaled.counts.tolist() == value.counts.tolist()
    scaled.loss.sum().backward()
    assert torch.isfinite(probe.grad).all()


def test_an_image_without_any_detection_has_a_constant_loss_and_no_error() -> None:
    def nothing(images: Tensor) -> list[dict[str, Tensor]]:
        empty = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.int64)}
        return [empty for _ in images]

    critic = from_module(nothing, CLASSES)
    probe = rendered(2).clone().requires_grad_()
    found = critic.evaluate(probe, {"apple": 0}, LOSSES["margin"])
    found.loss.sum().backward()
    assert found.counts.tolist() == [[0], [0]]
    assert float(probe.grad.abs().max()) == 0


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda images: images, r"a tensor \(2, 3, 128, 128\) for 2 images; expected a pair"),
        (lambda images: {"boxes": images}, "a dict of boxes"),
        (lambda images: [{"boxes": torch.zeros(1, 4)}] * 2, r"a list of 2 \(a dict of boxes first\)"),
        (lambda images: (torch.zeros(2, 5, 4), torch.zeros(2, 5)), r"boxes \(2, 5, 4\) and logits \(2, 5\)"),
        (lambda images: (torch.zeros(2, 5, 4), torch.zeros(2, 5, 3)), "3 classes, 4 are named"),
        (lambda images: (torch.zeros(2, 5, 4), torch.zeros(2, 5, 9)), "9 classes, 4 are named"),
    ],
)
def test_another_output_is_refused_with_what_was_expected(output: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_module(output, CLASSES, name="mine").counts(rendered(2), ["apple"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("weights.pt", CLASSES), "expected an nn.Module or a function"),
        ((Boxes(), "apple"), "classes in the order of the labels"),
        ((Boxes(), []), "classes in the order of the labels"),
    ],
)
def test_bad_arguments_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_module(*arguments)
    with pytest.raises(ValueError, match="threshold must be a probability"):
        from_module(Boxes(), CLASSES, threshold=1.5)
