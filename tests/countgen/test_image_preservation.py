"""What of an image is kept: measures against constructed images and closed forms."""

import itertools
from types import SimpleNamespace

import pytest
import torch

from countgen.critics import Detections
from countgen.image_preservation import (
    background_change,
    inside_boxes,
    is_same_image,
    objects_kept,
    structural_similarity,
)
from countgen.prompts import Target

pytestmark = pytest.mark.core

NO_BOXES = torch.empty(0, 4)


def detected(*corners: tuple[float, float], side: float = 10.0) -> Detections:
    boxes = torch.tensor([[x, y, x + side, y + side] for x, y in corners]).reshape(-1, 4)
    return Detections(boxes, torch.full((len(boxes),), 0.9), "apple")


def noise(seed: int = 0, size: int = 32) -> torch.Tensor:
    return torch.rand(3, size, size, generator=torch.Generator().manual_seed(seed))


FOUR = detected((0, 0), (20, 0), (40, 0), (60, 0))
KEPT = [
    # Objects that stay, and objects that move away: IoU 0.82, 0.54, 0.11, 0.
    (FOUR, detected((1, 0), (20, 3), (40, 8), (90, 90)), 4, 0.5),
    # An object that had to go is not missed, and too many kept are no more than all.
    (FOUR, detected((0, 0), (20, 0), (40, 0)), 3, 1),
    (FOUR, detected((0, 0), (20, 0), (40, 0)), 4, 0.75),
    (FOUR, FOUR, 2, 1),
    # New objects neither help nor harm.
    (detected((0, 0)), detected((0, 0), (20, 0), (40, 0)), 3, 1),
    (detected(), detected((0, 0)), 1, 1),
    (detected((0, 0)), detected(), 1, 0),
    # The first box after fits both before, and best the one that the second box after fits too.
    (detected((0, 0), (3, 0)), detected((2, 0), (5, 0)), 2, 1),
]


def test_objects_kept_are_matched_one_to_one_within_each_class():
    assert [objects_kept([before], [after], [count]) for before, after, count, _ in KEPT] == [row[3] for row in KEPT]
    cats, dogs = detected((0, 0), (20, 0)), detected((40, 0), (60, 0))
    assert objects_kept([cats, dogs], [dogs, cats], [2, 2]) == 0
    assert objects_kept([cats, dogs], [cats, detected((40, 0))], [2, 2]) == 0.75


def test_background_change_is_the_mean_difference_outside_the_boxes():
    before, image = torch.zeros(3, 8, 8), torch.zeros(3, 8, 8)
    image[:, 2:6, 2:6] = 1  # the object: 16 of 64 pixels
    image[0, 0, 0] = 0.96  # one channel of one of 48 pixels of the background
    box = torch.tensor([[2.0, 2.0, 6.0, 6.0]])
    assert background_change(before, image, box) == pytest.approx(0.96 / 3 / 48)
    assert background_change(before, image, NO_BOXES) == pytest.approx((16 + 0.32) / 64)
    assert background_change(before, image, torch.tensor([[-5.0, -5.0, 99.0, 99.0]])) == 0


def test_a_pixel_that_a_box_touches_is_inside():
    expected = torch.zeros(6, 6, dtype=torch.bool)
    expected[1:4, 0:3] = True
    assert inside_boxes(torch.tensor([[-2.0, 1.2, 2.1, 3.9]]), 6, 6).equal(expected)
    assert not inside_boxes(torch.tensor([[-9.0, -9.0, -3.0, -3.0]]), 6, 6).any()


def test_equal_images_are_similar_and_a_box_hides_what_it_holds():
    before = noise()
    image = before.clone()
    image[:, 8:16, 8:16] = 0
    box = torch.tensor([[8.0, 8.0, 16.0, 16.0]])
    assert structural_similarity(before, before, NO_BOXES) == pytest.approx(1)
    assert structural_similarity(before, image, box) == pytest.approx(1)
    assert structural_similarity(before, image, NO_BOXES) < 0.9


def test_similarity_equals_a_slow_oracle():
    first, second = noise(1, 13).double(), noise(2, 13).double()
    offset = torch.arange(11, dtype=torch.float64) - 5
    weights = torch.exp(-(offset[:, None] ** 2) / 4.5 - offset[None] ** 2 / 4.5)
    weights /= weights.sum()
    values = []
    for channel, row, column in itertools.product(range(3), range(3), range(3)):
        x, y = (image[channel, row : row + 11, column : column + 11] for image in (first, second))
        mean_x, mean_y = (weights * x).sum(), (weights * y).sum()
        variance_x, variance_y = (weights * (x - mean_x) ** 2).sum(), (weights * (y - mean_y) ** 2).sum()
        covariance = (weights * (x - mean_x) * (y - mean_y)).sum()
        luminance = (2 * mean_x * mean_y + 1e-4) / (mean_x**2 + mean_y**2 + 1e-4)
        values.append(luminance * (2 * covariance + 9e-4) / (variance_x + variance_y + 9e-4))
    expected = float(torch.stack(values).mean())
    assert structural_similarity(first, second, NO_BOXES) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("number", "background", "same"),
    [(4, 0.0, True), (3, 0.0, True), (2, 0.0, False), (4, 0.09, True), (4, 0.11, False)],
)
def test_an_image_is_the_same_with_most_objects_and_most_of_the_background(number: int, background: float, same: bool):
    # Three of four are asked for: one may go, not two.
    left = Detections(FOUR.boxes[:number], FOUR.scores[:number], "apple")
    detector = SimpleNamespace(detect=lambda images, names: [(FOUR,), (left,)])
    before = torch.zeros(3, 80, 80)
    assert is_same_image(before, before + background, detector, [Target("apple", 3)]) is same  # type: ignore[arg-type]
