"""What of an image is kept: measures against constructed images and closed forms."""

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
    # Objects that stay, and objects that move away: IoU 0.82, 0.504, 0.493, 0.
    (FOUR, detected((1, 0), (20, 3.3), (40, 3.4), (90, 90)), 4, 0.5),
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


def test_similarity_has_its_closed_form_where_luminance_or_structure_alone_differs():
    dark, light = (torch.full((3, 16, 16), value, dtype=torch.float64) for value in (0.2, 0.8))
    luminance = (2 * 0.2 * 0.8 + 1e-4) / (0.2**2 + 0.8**2 + 1e-4)
    assert structural_similarity(dark, light, NO_BOXES) == pytest.approx(luminance)
    stripes = (torch.arange(32) % 2).double().expand(3, 32, 32)
    structure = (9e-4 - 2 * 0.25) / (9e-4 + 2 * 0.25)
    assert structural_similarity(stripes, 1 - stripes, NO_BOXES) == pytest.approx(structure, abs=1e-3)


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
