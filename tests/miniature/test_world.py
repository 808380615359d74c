"""The rendered world: drawings, counts, labels and captions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from countgen.miniature import FOLDER, tokenizers
from countgen.miniature.world import (
    BACKGROUNDS,
    HELD_OUT_OBJECTS,
    HELD_OUT_PAIRS,
    IMAGE_SIZE,
    NUMBER_WORDS,
    OBJECT_NAMES,
    OBJECTS_FOLDER,
    PLURALS,
    Scene,
    caption,
    load_sprites,
    render,
    sample_scenes,
)


@pytest.fixture(scope="module")
def sprites() -> Tensor:
    return load_sprites()


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_object_has_two_drawings_in_the_order_of_the_names(sprites: Tensor) -> None:
    assert sprites.shape == (48, 2, 5, 64, 64)
    for kind in (0, 11, 23):
        for place, drawing in enumerate(("fluent", "noto")):
            pixels = np.asarray(Image.open(OBJECTS_FOLDER / f"{OBJECT_NAMES[kind]}_{drawing}.png"))
            expected = torch.from_numpy(pixels.copy()).float() / 255
            texture = sprites[kind * 2 + place, 0]
            torch.testing.assert_close(texture[3], expected[..., 3])
            torch.testing.assert_close(texture[:3], expected[..., :3].permute(2, 0, 1) * expected[..., 3])


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


def test_twenty_objects_are_all_visible(sprites: Tensor) -> None:
    rendered = render([Scene(((20, 20),), 2)] * 4, sprites, seeded(2))
    sides = rendered.boxes[..., 2:] - rendered.boxes[..., :2]
    assert (sides >= 9).all()
    centres = (rendered.boxes[..., 2:] + rendered.boxes[..., :2]) / 2
    distances = torch.cdist(centres, centres) + 1000 * torch.eye(20)
    assert float(distances.min()) > 6


def test_the_same_seed_gives_the_same_image_and_another_seed_another(sprites: Tensor) -> None:
    scenes = sample_scenes(4, np.random.default_rng(0))
    first, again, other = (render(scenes, sprites, seeded(seed), distractors=True) for seed in (5, 5, 6))
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.boxes, again.boxes)
    assert not torch.equal(first.images, other.images)


def test_distractors_change_the_background_and_no_label(sprites: Tensor) -> None:
    rendered = render([Scene(((0, 0),), 0)] * 8, sprites, seeded(3), distractors=True)
    assert not rendered.present.any()
    assert float(rendered.images.std((2, 3)).mean(1).max()) > 0.03


def test_sampled_scenes_respect_the_largest_count_and_prefer_few_objects() -> None:
    rng = np.random.default_rng(0)
    totals = [scene.total for scene in sample_scenes(600, rng, max_count=9)]
    assert min(totals) == 1
    assert max(totals) == 9
    assert totals.count(1) > 2 * totals.count(9)
    even = [scene.total for scene in sample_scenes(600, rng, max_count=3, uniform=True)]
    assert all(abs(even.count(count) - 200) < 60 for count in (1, 2, 3))
    assert 0 in [scene.total for scene in sample_scenes(200, rng, empty_up_to=2)]
    assert all(len(scene.groups) == 1 for scene in sample_scenes(50, rng, two_kinds=0.0))


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


def test_object_names_and_number_words_are_complete_and_unique() -> None:
    assert len(OBJECT_NAMES) == len(PLURALS) == len(set(OBJECT_NAMES)) == 24
    assert NUMBER_WORDS[0] == "zero"
    assert NUMBER_WORDS[15] == "fifteen"
    assert len(BACKGROUNDS) == 6


@pytest.mark.parametrize(
    ("groups", "background"), [((), 0), (((24, 1),), 0), (((0, -1),), 0), (((0, 1),), 6), (((-1, 1),), 0)]
)
def test_an_impossible_scene_is_refused(groups: tuple[tuple[int, int], ...], background: int) -> None:
    with pytest.raises(ValueError, match="must"):
        Scene(groups, background)


def test_bad_arguments_are_refused(sprites: Tensor) -> None:
    with pytest.raises(ValueError, match="at least one scene"):
        render([], sprites)
    with pytest.raises(ValueError, match="load_sprites"):
        render([Scene(((0, 1),), 0)], sprites[:5])
    with pytest.raises(ValueError, match="max_count"):
        sample_scenes(1, np.random.default_rng(0), max_count=0)


def test_built_tokenizers_equal_the_shipped_ones_and_know_every_word_of_the_world(tmp_path: Path) -> None:
    from transformers import CLIPTokenizer, T5Tokenizer

    tokenizers.main([str(tmp_path)])
    prompt = "a photo of twelve butterflies and 3 cats"
    for tokenizer in (CLIPTokenizer.from_pretrained(tmp_path / "clip"), T5Tokenizer.from_pretrained(tmp_path / "t5")):
        ids = tokenizer(prompt).input_ids
        assert tokenizer.unk_token_id not in ids[:-1]
        assert tokenizer.decode(ids, skip_special_tokens=True).strip() == prompt
    built, shipped = (
        json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["merges"]
        for folder in (tmp_path / "clip", FOLDER / "mini-sdxl-turbo" / "tokenizer")
    )
    assert built == shipped
    of_t5 = FOLDER / "mini-pixart-dmd" / "tokenizer" / "tokenizer.json"
    assert (tmp_path / "t5" / "tokenizer.json").read_bytes() == of_t5.read_bytes()
