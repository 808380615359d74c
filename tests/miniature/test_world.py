"""The rendered world: drawings, counts, labels and captions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from countgen.benchmarks.miniature.world import IMAGE_SIZE, Scene, caption, load_sprites, render
from countgen.miniature.world import HELD_OUT_OBJECTS, HELD_OUT_PAIRS, NUMBER_WORDS, OBJECT_NAMES


@pytest.fixture(scope="module")
def sprites() -> Tensor:
    return load_sprites()


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 15, 20])
def test_a_rendered_scene_has_as_many_objects_as_specified(count: int, sprites: Tensor) -> None:
    rendered = render([Scene(((10, count),), 0), Scene(((3, 1), (4, 2)), 1)], sprites, seeded(count))
    assert rendered.images.shape == (2, 3, IMAGE_SIZE, IMAGE_SIZE)
    assert float(rendered.images.min()) >= 0
    assert float(rendered.images.max()) <= 1
    assert rendered.present.sum(1).tolist() == [count, 3]
    assert rendered.labels[1][rendered.present[1]].tolist() == [3, 4, 4]


def test_captions_never_state_held_out_counts() -> None:
    rng = np.random.default_rng(0)
    numbers = {*NUMBER_WORDS, *map(str, range(21))}
    cases = [(name, count) for name in sorted(HELD_OUT_OBJECTS) for count in (1, 3, 12)]
    cases += [*sorted(HELD_OUT_PAIRS), ("cat", 16), ("cat", 20)]
    for name, count in cases:
        for _ in range(20):
            words = set(caption(Scene(((OBJECT_NAMES.index(name), count),), 0), rng, 1.0).split())
            assert not words & numbers, f"{count} {name}: {words}"


def test_captions_state_the_count_the_name_and_the_background() -> None:
    rng = np.random.default_rng(0)
    captions = {caption(Scene(((10, 3), (3, 1)), 2), rng, 1.0) for _ in range(200)}
    assert "a photo of three cats and one strawberry on the grass" in captions
    assert "there are 3 cats and 1 strawberry" in captions
