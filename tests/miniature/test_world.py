"""The rendered world: drawings, counts, labels and captions."""

from __future__ import annotations

from dataclasses import replace

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


def test_boxes_lie_inside_the_image_and_close_around_their_object(sprites: Tensor) -> None:
    scenes = [Scene(((kind, 1),), 4) for kind in range(24)]
    rendered = render(scenes, sprites, seeded(1))
    empty = render([replace(scene, groups=((kind, 0),)) for kind, scene in enumerate(scenes)], sprites, seeded(1))
    boxes = rendered.boxes[:, 0]
    assert (boxes >= 0).all()
    assert (boxes <= IMAGE_SIZE).all()
    assert ((boxes[:, 2:] - boxes[:, :2]) >= 10).all()
    for image, plain, (x1, y1, x2, y2) in zip(rendered.images, empty.images, boxes.int().tolist(), strict=True):
        # The box contains the object's contrast; around it is a uniform blue background, except for the shadow.
        inside = image[:, y1:y2, x1:x2].std((1, 2)).mean()
        assert inside > 2 * plain.std((1, 2)).mean()
        outside = image.clone()
        outside[:, max(y1 - 12, 0) : y2 + 12, max(x1 - 12, 0) : x2 + 12] = float("nan")
        values = outside[~outside.isnan()].view(3, -1)
        assert (values.amax(1) - values.amin(1) < 0.35).all()


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
    uncounted = {caption(Scene(((10, 3),), 0), rng, 0.0) for _ in range(100)}
    assert "a photo of a few cats" in uncounted
    assert not any("three" in text or "3" in text for text in uncounted)
    assert caption(Scene(((0, 0),), 0), rng, 0.0).endswith("no apples")
