"""The base class: classes, candidates, counts, losses and settings of a detector, and what it takes for an image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from countgen.critics.base import Critic
from countgen.critics.candidates import Proposals
from countgen.critics.losses import LOSSES
from countgen.critics.validation import to_batch

pytestmark = pytest.mark.core
IMAGE = torch.zeros(1, 3, 8, 8)
MARGIN = LOSSES["margin"]


class Fixed(Critic):
    """A detector whose logits are given, for boxes side by side, several of them in each place."""

    object_names = ("apple", "dog", "skis")

    def __init__(self, logits: Any, *, step: float = 20.0, in_place: int = 1, **settings: Any) -> None:
        self.name = "fixed"
        self.logits, self.step, self.in_place = torch.as_tensor(logits)[None], step, in_place
        self.configure(**settings)

    def propose(self, images: Tensor, object_names: Sequence[str]) -> Proposals:
        places = torch.arange(self.logits.shape[1] // self.in_place).repeat_interleave(self.in_place)
        corner = places[:, None] * self.step
        boxes = torch.cat([corner, corner, corner + 10, corner + 10], -1).expand(len(images), -1, -1)
        return Proposals(boxes, self.logits + images.mean(), tuple(self.column(name) for name in object_names))


def test_a_box_counts_for_its_best_class_only_unless_every_class_of_a_box_counts() -> None:
    critic = Fixed([[3.0, 2.0, -9.0], [1.0, 4.0, -9.0], [-9.0, -9.0, -9.0]])
    assert critic.counts(IMAGE, ["apple", "dog"]).tolist() == [[1, 1]]
    critic.one_class_per_box = False
    assert critic.counts(IMAGE, ["apple", "dog"]).tolist() == [[2, 2]]
    assert critic.count(IMAGE, " APPLES ") == 2


def test_boxes_of_two_classes_in_one_place_both_count_and_of_one_class_the_best() -> None:
    critic = Fixed([[3.0, -9.0, -9.0], [2.0, -9.0, -9.0], [-9.0, 4.0, -9.0]], step=0.5)
    assert critic.counts(IMAGE, ["apple", "dog"]).tolist() == [[1, 1]]
    ((apples, _),) = critic.detect(IMAGE, ["apple", "dog"])
    assert apples.boxes.tolist() == [[0, 0, 10, 10]]
    assert apples.scores.tolist() == [pytest.approx(1 / (1 + math.exp(-3)))]
    critic.configure(nms_iou=0.9)
    assert critic.counts(IMAGE, ["apple", "dog"]).tolist() == [[2, 1]]


def test_a_box_of_another_class_is_lower_the_clearer_that_class_is_and_can_be_pulled_over() -> None:
    logits = torch.tensor([[2.0, 2.5, -9.0], [2.0, 6.0, -9.0]], requires_grad=True)
    (apples,) = Fixed(logits).candidates(IMAGE, ["apple"])
    assert apples.logits.tolist() == [[-0.5, -4.0]]
    apples.logits.sum().backward()
    assert (logits.grad[..., 1] < 0).all()


def test_the_threshold_is_a_probability_and_the_soft_count_has_the_steepness_of_the_settings() -> None:
    logits = [[0.3, -9.0, -9.0], [1.0, -9.0, -9.0]]
    assert Fixed(logits).count(IMAGE, "apple") == 2
    critic = Fixed(logits, threshold=0.6, steepness=3.0)
    assert critic.threshold_logit == pytest.approx(math.log(0.6 / 0.4))
    evaluation = critic.evaluate(IMAGE, {"apple": 1}, MARGIN)
    indicators = [1 / (1 + math.exp(-3 * (logit - critic.threshold_logit))) for logit in (0.3, 1.0)]
    assert evaluation.soft_counts.item() == pytest.approx(sum(indicators))
    assert evaluation.counts.item() == critic.count(IMAGE, "apple") == 1
    assert evaluation.margin.item() == pytest.approx((critic.threshold_logit - 0.3) / critic.safe_distance)


def test_the_loss_is_the_sum_over_objects_and_the_margin_that_of_the_nearest_change() -> None:
    critic = Fixed([[3.0, -9.0, -9.0], [-9.0, 1.0, -9.0]])
    both = critic.evaluate(IMAGE, {"apples": 2, "dog": 1}, MARGIN)
    apart = [critic.evaluate(IMAGE, {name: count}, MARGIN) for name, count in (("apple", 2), ("dog", 1))]
    torch.testing.assert_close(both.loss, apart[0].loss + apart[1].loss)
    assert both.margin.item() == min(evaluation.margin.item() for evaluation in apart)
    assert both.counts.tolist() == [[1, 1]]


def test_kept_candidates_come_before_suppressed_ones_where_there_are_more_than_are_returned() -> None:
    """1100 places of two boxes each: of the 2200 proposals, 1024 are returned, every one kept and best first."""
    logits = torch.linspace(5, 1, 2200)[:, None] * torch.tensor([1, -1, -1])
    critic = Fixed(logits, in_place=2)
    (apples,) = critic.candidates(IMAGE, ["apple"])
    assert critic.count(IMAGE, "apple") == 1024
    assert apples.kept.all()
    assert (apples.logits.diff() < 0).all()


def test_a_network_is_frozen_and_the_critic_has_the_name_of_its_file_by_default() -> None:
    critic = Critic(torch.nn.Linear(2, 2).train(), ["apple"])
    assert not critic.model.training
    assert not any(parameter.requires_grad for parameter in critic.model.parameters())
    assert (critic.name, critic.object_names) == ("base", ("apple",))
    with pytest.raises(ValueError, match="base has no threshold to set"):
        critic.configure(threshold=0.2)
    with pytest.raises(TypeError, match="counts without detecting"):
        critic.candidates(IMAGE, ["apple"])


def test_a_path_a_pil_image_an_array_and_a_tensor_are_the_same_image_upright(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    tensor, photo = torch.from_numpy(pixels).permute(2, 0, 1) / 255, Image.fromarray(pixels)
    exif = photo.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    photo.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.png", exif=exif)
    given = (str(tmp_path / "a.png"), tmp_path / "a.png", photo, photo.convert("RGBA"), pixels, tensor, tensor[None])
    for image in given:
        assert torch.equal(to_batch(image), tensor[None])
    torch.testing.assert_close(to_batch(pixels.astype(np.float64) / 255), tensor[None])


def counting(image: Any) -> Callable[[Critic], Any]:
    return lambda critic: critic.count(image, "apple")


def steering(targets: Any, loss: Any = MARGIN) -> Callable[[Critic], Any]:
    return lambda critic: critic.evaluate(IMAGE, targets, loss)


@pytest.mark.parametrize(
    ("call", "help_"),
    [
        (counting(torch.zeros(8, 8, 3)), "divide 8-bit images by 255"),
        (counting(torch.zeros(3, 8, 8, dtype=torch.uint8)), "divide 8-bit images by 255"),
        (counting(torch.full((3, 8, 8), 255.0)), r"in \[0, 1\], got 255 to 255; divide 8-bit"),
        (counting(torch.full((3, 8, 8), -1.0)), r"got -1 to -1.*/ 2 \+ 0.5"),
        (counting(torch.full((3, 8, 8), float("nan"))), "got nan to nan"),
        (counting(torch.zeros(3, 0, 8)), "at least one image"),
        (counting(torch.zeros(2, 3, 8, 8)), "use counts for batches"),
        (counting(np.zeros((3, 8, 8), np.uint8)), r"an RGB array \(H, W, 3\)"),
        (counting(np.zeros((8, 8, 3), np.int64)), "an RGB array"),
        (counting(["apple.png"]), "a path, a PIL image, a numpy array .* got list"),
        (steering({}), "one or several object names"),
        (steering({" ": 1}), "one or several object names"),
        (lambda critic: critic.counts(IMAGE, "apple"), "one or several object names"),
        (steering({"aple": 1}), "fixed has no class for 'aple'; nearest: apple"),
        (steering({"apple": -1}), "whole number from 0 on for 'apple', got -1"),
        (steering({"apple": 2.5}), r"got 2\.5"),
        (steering({"apple": 2}, "margin"), "a function of countgen.critics.losses, got 'margin'"),
        (lambda critic: critic.configure(threshold=0.0), "a probability above 0 and below 1, got 0"),
        (lambda critic: critic.configure(threshold=25), "got 25"),
        (lambda critic: critic.configure(nms_iou=0.0), "nms_iou must be above 0"),
        (lambda critic: critic.configure(steepness=0.0), "steepness must be above 0"),
        (lambda critic: critic.configure(image_size=64), "fixed has no image_size to set"),
        (lambda critic: critic.check_distinct(["dog", "puppies"]), "'dog' and 'puppies' are one class of fixed"),
    ],
)
def test_what_does_not_fit_is_an_error_that_says_what_is_expected(call: Callable[[Critic], Any], help_: str) -> None:
    with pytest.raises(ValueError, match=help_):
        call(Fixed(torch.zeros(1, 3)))
