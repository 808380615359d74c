"""Duplicate suppression, the border's data, and what a critic takes for an image."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.ops import nms

from countgen.critics import nms as suppression
from countgen.critics.base import Critic
from countgen.critics.candidates import Proposals
from countgen.critics.losses import LOSSES
from countgen.critics.nms import unsuppressed
from countgen.critics.validation import to_batch

pytestmark = pytest.mark.core


def boxes_of(number: int, seed: int, side: float = 128.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(3, number, 2, generator=generator) * side
    half = (4 + 20 * torch.rand(3, number, 2, generator=generator)) / 2
    return torch.cat([centre - half, centre + half], -1)


def test_suppression_equals_torchvisions(subtests: pytest.Subtests, monkeypatch: pytest.MonkeyPatch) -> None:
    # Pair by pair, whatever the number, as on a GPU.
    monkeypatch.setattr(suppression, "FEW_BOXES", 10_000)
    for number, iou, block in product((1, 2, 40, 300, 700), (0.1, 0.45, 0.7, 0.95), (100, 1024)):
        with subtests.test(number=number, iou=iou, block=block):
            monkeypatch.setattr(suppression, "BLOCK", block)
            boxes = boxes_of(number, seed=number)
            kept = unsuppressed(boxes, iou)
            for row in range(len(boxes)):
                expected = torch.zeros(number, dtype=torch.bool)
                expected[nms(boxes[row], -torch.arange(number).float(), iou)] = True
                assert torch.equal(kept[row], expected)


def test_many_boxes_are_suppressed_like_few(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = boxes_of(600, seed=9)
    one_by_one = unsuppressed(boxes, 0.5)
    monkeypatch.setattr(suppression, "FEW_BOXES", 600)
    assert torch.equal(one_by_one, unsuppressed(boxes, 0.5))


def test_a_chain_of_overlaps_keeps_every_other_box() -> None:
    left = torch.arange(30.0) * 4
    chain = torch.stack([left, torch.zeros(30), left + 10, torch.full((30,), 10.0)], -1)[None]
    assert unsuppressed(chain, 0.3)[0].tolist() == [True, False] * 15


def test_a_box_turned_inside_out_covers_nothing() -> None:
    boxes = torch.tensor([[[20.0, 20.0, 10.0, 30.0], [0.0, 0.0, 5.0, 5.0], [50.0, 50.0, 60.0, 60.0]]])
    assert unsuppressed(boxes, 0.5).all()


class Fixed(Critic):
    """Says what it is told to say."""

    def __init__(self, logits: Tensor, **settings: object) -> None:
        self.name = "fixed"
        self.object_names = ("apple", "dog", "skis")
        self.logits = logits
        self.__dict__.update(settings)

    def propose(self, images: Tensor, object_names: Sequence[str]) -> Proposals:
        number = self.logits.shape[1]
        corner = torch.arange(number).float()[:, None] * 20
        boxes = torch.cat([corner, corner, corner + 10, corner + 10], -1).expand(len(images), -1, -1)
        return Proposals(boxes, self.logits + images.mean(), tuple(self.column(name) for name in object_names))


PICTURE = torch.zeros(1, 3, 8, 8)


def test_a_box_counts_for_its_best_class_only() -> None:
    critic = Fixed(torch.tensor([[[3.0, 2.0, -9.0], [1.0, 4.0, -9.0], [-9.0, -9.0, -9.0]]]))
    assert critic.counts(PICTURE, ["apple", "dog"]).tolist() == [[1, 1]]


def test_a_box_of_another_class_is_lower_the_clearer_that_class_is_and_can_be_pulled_over() -> None:
    logits = torch.tensor([[[2.0, 2.5, -9.0], [2.0, 6.0, -9.0]]], requires_grad=True)
    (found,) = Fixed(logits).candidates(PICTURE, ["apple"])
    assert found.logits.tolist() == [[-0.5, -4.0]]
    found.logits.sum().backward()
    assert (logits.grad[..., 1] < 0).all()


def test_without_that_rule_a_box_counts_for_every_class_it_scores() -> None:
    critic = Fixed(torch.tensor([[[3.0, 2.0, -9.0]]]), one_class_per_box=False)
    assert critic.counts(PICTURE, ["apple", "dog"]).tolist() == [[1, 1]]


@pytest.mark.parametrize("name", ["apple", "apples", "Apple", " APPLES ", "skis", "ski"])
def test_plurals_and_case_do_not_matter(name: str) -> None:
    critic = Fixed(torch.full((1, 2, 3), 5.0), one_class_per_box=False)
    assert critic.count(PICTURE, name) == 2


def test_an_unknown_object_names_what_is_near() -> None:
    with pytest.raises(ValueError, match=r"fixed has no class for 'aple'; nearest: apple"):
        Fixed(torch.zeros(1, 1, 3)).count(PICTURE, "aple")


def test_pil_pictures_and_tensors_give_the_same_batch() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1) / 255
    assert torch.equal(to_batch(Image.fromarray(pixels)), tensor[None])
    assert torch.equal(to_batch(tensor), tensor[None])
    assert torch.equal(to_batch(Image.fromarray(pixels).convert("RGBA")), tensor[None])


@pytest.mark.parametrize(
    "image",
    [torch.zeros(8, 8), torch.zeros(1, 8, 8), torch.zeros(8, 8, 3), torch.zeros(3, 8, 8, dtype=torch.uint8)],
    ids=["grey", "one channel", "channels last", "8 bit"],
)
def test_other_images_are_refused_with_what_to_do(image: Tensor) -> None:
    with pytest.raises(ValueError, match="divide 8-bit images by 255"):
        to_batch(image)


def test_count_takes_one_picture() -> None:
    with pytest.raises(ValueError, match="use counts for batches"):
        Fixed(torch.zeros(1, 1, 3)).count(torch.zeros(2, 3, 8, 8), "apple")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.full((3, 8, 8), 255.0), r"in \[0, 1\], got 255 to 255; divide 8-bit"),
        (torch.full((3, 8, 8), -1.0), r"got -1 to -1.*/ 2 \+ 0.5"),
        (torch.full((3, 8, 8), float("nan")), "got nan to nan"),
        (torch.zeros(0, 3, 8, 8), "at least one image"),
        (torch.zeros(3, 0, 8), "at least one image"),
        (np.zeros((8, 8), np.uint8), r"expected an RGB array \(H, W, 3\)"),
        (["apple.png"], "expected a path, a PIL image, a numpy array .* got list"),
    ],
    ids=["8 bit as float", "from -1 to 1", "nan", "no picture", "no pixels", "array", "list"],
)
def test_what_is_no_picture_is_not_counted(image: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Fixed(torch.zeros(1, 1, 3)).count(image, "apple")  # type: ignore[arg-type]


@pytest.mark.parametrize("names", [[], "apple", [""], ["apple", " "]])
def test_names_that_ask_nothing_are_refused(names: Sequence[str]) -> None:
    with pytest.raises(ValueError, match="one or several object names"):
        Fixed(torch.zeros(1, 1, 3)).counts(PICTURE, names)


@pytest.mark.parametrize(
    ("targets", "loss", "message"),
    [
        ({}, "margin", "one or several object names"),
        ({"apple": -1}, "margin", "whole number from 0 on for 'apple', got -1"),
        ({"apple": 2.5}, "l1", r"got 2\.5"),
        ({"apple": 2}, None, "a function of countgen.critics.losses, got 'margin'"),
    ],
)
def test_questions_that_no_picture_answers_are_refused(targets: dict[str, int], loss: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Fixed(torch.zeros(1, 1, 3)).evaluate(PICTURE, targets, LOSSES[loss] if loss else "margin")  # type: ignore[arg-type]


def test_kept_hypotheses_come_before_suppressed_ones_where_there_is_no_room_for_all() -> None:
    """1100 places of two boxes each: of the 2200 proposals, 1024 are returned, every one kept and best first."""
    number = 1100

    class Crowd(Fixed):
        def propose(self, images: Tensor, object_names: Sequence[str]) -> Proposals:
            corner = torch.arange(number).repeat_interleave(2).float()[:, None] * 20
            return Proposals(torch.cat([corner, corner, corner + 10, corner + 10], -1)[None], self.logits, (0,))

    critic = Crowd(torch.linspace(5, 1, 2 * number)[None, :, None], object_names=("apple",))
    (found,) = critic.candidates(PICTURE, ["apple"])
    assert critic.count(PICTURE, "apple") == 1024
    assert found.kept.all()
    assert (found.logits.diff() < 0).all()
