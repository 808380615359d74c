"""What of an image is kept: measures against constructed images and closed forms."""

import itertools
from collections.abc import Sequence

import pytest
import torch

from countgen.critics import Critic, Detections, Proposals
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


@pytest.mark.parametrize("seed", range(5))
def test_the_matching_equals_the_best_of_all_permutations(seed: int):
    generator = torch.Generator().manual_seed(seed)
    boxes = [[tuple(corner) for corner in (12 * torch.rand(5, 2, generator=generator)).tolist()] for _ in range(2)]
    before, after = detected(*boxes[0]), detected(*boxes[1])

    def same(a: tuple[float, float], b: tuple[float, float]) -> bool:
        shared = max(0.0, 10 - abs(a[0] - b[0])) * max(0.0, 10 - abs(a[1] - b[1]))
        return shared / (200 - shared) > 0.5

    best = max(sum(map(same, boxes[0], order)) for order in itertools.permutations(boxes[1]))
    assert objects_kept([before], [after], [5]) == best / 5


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


class Corners(Critic):
    """A detector of white squares of 8 pixels at the corners of an image."""

    name = "corners"
    object_names = ("cat",)
    boxes = torch.tensor([[0.0, 0, 8, 8], [24, 0, 32, 8], [0, 24, 8, 32], [24, 24, 32, 32]])

    def __init__(self) -> None:
        """Without a network."""

    def propose(self, images: torch.Tensor, object_names: Sequence[str]) -> Proposals:
        squares = [images[..., y : y + 8, x : x + 8].mean((1, 2, 3)) for x, y, _, _ in self.boxes.int().tolist()]
        logits = 40 * torch.stack(squares, 1)[..., None] - 20
        return Proposals(self.boxes.expand(len(images), -1, -1), logits, (0,))


def with_squares(number: int, background: float = 0.0) -> torch.Tensor:
    image = torch.full((3, 32, 32), background)
    for x, y, _, _ in Corners.boxes[:number].int().tolist():
        image[:, y : y + 8, x : x + 8] = 1
    return image


@pytest.mark.parametrize(
    ("number", "background", "same"),
    [(4, 0.0, True), (3, 0.0, True), (2, 0.0, False), (4, 0.09, True), (4, 0.11, False)],
)
def test_an_image_is_the_same_with_most_objects_and_most_of_the_background(number: int, background: float, same: bool):
    # Three of four are asked for: one may go, not two.
    changed = with_squares(number, background)
    assert is_same_image(with_squares(4), changed, Corners(), [Target("cat", 3)]) is same
