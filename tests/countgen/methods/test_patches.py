"""Moves copy and replace patches of the latents where the detector's boxes are, and nothing else."""

import pytest
import torch
from torch import Tensor

from countgen.methods.patches import PatchMoves
from countgen.prompts import Target
from tests.countgen.methods.test_edit import Fixed

pytestmark = pytest.mark.core

LATENTS = torch.randn(4, 16, 24, generator=torch.Generator().manual_seed(0))
IMAGE = torch.zeros(3, 128, 192)  # 8 pixels a cell: a box of 16 pixels has 2 by 2 cells


def moves_of(detector: Fixed, seed: int = 0, **target_counts: int) -> PatchMoves:
    targets = [Target(name, count) for name, count in target_counts.items()]
    return PatchMoves(detector, targets, IMAGE, LATENTS, torch.Generator().manual_seed(seed))


def changed_cells(moved: Tensor) -> list[tuple[int, int]]:
    return [(row, column) for row, column in (moved != LATENTS).any(0).nonzero().tolist()]


def patch_at(latents: Tensor, row: int, column: int) -> Tensor:
    return latents[:, row : row + 2, column : column + 2]


@pytest.mark.parametrize("seed", range(5))
def test_a_missing_object_is_a_copy_of_a_sure_one_at_an_empty_place(seed: int):
    (moved,) = moves_of(Fixed((16, 0, 9), (64, 32, 5), (128, 96, 1)), seed, cat=4).batch(1)
    cells = changed_cells(moved)
    row, column = min(cells)
    assert cells == [(row + y, column + x) for y in range(2) for x in range(2)]
    copied = patch_at(moved, row, column)
    assert copied.equal(patch_at(LATENTS, 0, 2)) or copied.equal(patch_at(LATENTS, 4, 8))  # not the least certain
    objects = {(y + row, x + column) for y, x in ((0, 2), (4, 8), (12, 16)) for row in range(2) for column in range(2)}
    assert objects.isdisjoint(cells)


def test_all_missing_objects_come_at_once_and_at_places_of_their_own():
    for moved in moves_of(Fixed((0, 0, 9)), cat=6).batch(4):
        assert len(changed_cells(moved)) == 5 * 4


@pytest.mark.parametrize("seed", range(5))
def test_objects_too_many_are_replaced_among_the_least_certain(seed: int):
    detector = Fixed((0, 0, 9), (32, 0, 8), (64, 0, 7), (96, 0, 6), (128, 0, 5), (0, 64, 0.5))
    (moved,) = moves_of(detector, seed, cat=4).batch(1)
    replaced = {(row // 2 * 2, column // 2 * 2) for row, column in changed_cells(moved)}
    assert len(replaced) == 2
    assert replaced <= {(0, 8), (0, 12), (0, 16), (8, 0)}


def test_an_object_is_replaced_with_an_empty_place_or_with_fresh_noise():
    places = [patch_at(LATENTS, row, column) for row in range(15) for column in range(23)]
    replaced = [patch_at(moved, 0, 0) for moved in moves_of(Fixed((0, 0, 9), (64, 64, 9)), cat=1).batch(20)]
    copies = [any(patch.equal(place) for place in places[1:]) for patch in replaced if not patch.equal(places[0])]
    assert True in copies
    assert False in copies


def test_where_one_class_has_too_many_and_another_too_few_both_change():
    detector = Fixed((0, 0, 9), (64, 64, 0.5))  # the second one is the surer dog
    moves = moves_of(detector, cat=1, dog=3)
    assert moves.missing == [-1, 1]
    for moved in moves.batch(4):
        assert 4 <= len(changed_cells(moved)) <= 8


def test_without_an_object_to_copy_fresh_noise_is_tried():
    (moved,) = moves_of(Fixed(), cat=1).batch(1)
    assert len(changed_cells(moved)) == 4 * 6
    assert 0.5 < float(moved[(moved != LATENTS)].std()) < 1.5


def test_counts_that_are_right_leave_nothing_to_move():
    moves = moves_of(Fixed((0, 0, 9), (64, 64, 5)), cat=2)
    assert moves.missing == [0]
    assert moves.batch(1)[0].equal(LATENTS)


def test_a_box_beyond_the_edge_has_a_patch_inside():
    for moved in moves_of(Fixed((-8, -8, 9), (184, 120, 5)), cat=3).batch(4):
        assert len(changed_cells(moved)) == 1  # of each box one cell is inside
