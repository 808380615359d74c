"""Likeness and diversity are what their definitions say, and a CLIP folder measures them."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

from benchmarks.evaluation.quality import Clip, Quality, load_clip, perceptual_distance, quality
from benchmarks.evaluation.report.__main__ import main
from countgen.images import save_png
from countgen.miniature import FOLDER
from tests.benchmarks.evaluation.made_records import record
from tests.benchmarks.evaluation.test_report import table_run

TOKENIZER = FOLDER / "mini-sdxl-turbo" / "tokenizer"


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random CLIP in transformers' format."""
    folder = tmp_path_factory.mktemp("clip")
    tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    tokens = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id}
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config={**sizes, **tokens}, vision_config={**sizes, "image_size": 32, "patch_size": 8}, projection_dim=12
    )
    CLIPModel(config).save_pretrained(folder)
    small = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPProcessor(CLIPImageProcessor(**small), tokenizer).save_pretrained(folder)
    return folder


def noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 48, 3), dtype=np.uint8))


def test_distance_agrees_with_its_formula() -> None:
    a, b = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    expected = 0.0
    for x, y in zip(a.tolist(), b.tolist(), strict=True):
        nx, ny = math.hypot(*x), math.hypot(*y)
        expected += sum((p / nx - q / ny) ** 2 for p, q in zip(x, y, strict=True)) / 5
    assert perceptual_distance([a], [b]) == pytest.approx(expected, rel=1e-5)
    assert perceptual_distance([a, a], [b, a]) == pytest.approx(expected / 2, rel=1e-5)


def test_distance_ends_at_zero_and_four() -> None:
    a = torch.randn(3, 7)
    assert perceptual_distance([a], [2 * a]) == pytest.approx(0, abs=1e-6)
    assert perceptual_distance([a], [-a]) == pytest.approx(4, rel=1e-6)


def test_diversity_compares_seeds_of_one_prompt_only(tmp_path: Path) -> None:
    records = [record(seed=seed, prompt=prompt) for prompt, seed in (("a", 0), ("a", 1), ("a", 2), ("b", 3), ("c", 4))]
    for one in records:
        save_png(noise(one.seed), tmp_path / f"{one.seed}.png")
    noise(4).save(tmp_path / "4.jpg")  # as in the study that is shipped

    def features(pictures: list[Image.Image]) -> list[list[Tensor]]:
        return [[torch.eye(3)[index : index + 1]] for index, _ in enumerate(pictures)]

    clip = Clip(lambda pictures, prompts: [0.1 * len(prompts)] * len(pictures), features)
    found = quality(records, lambda one: tmp_path / ("4.jpg" if one.prompt == "c" else f"{one.seed}.png"), clip)
    assert found == Quality(images=5, similarity=pytest.approx((3 * 0.3 + 2 * 0.1) / 5), diversity=pytest.approx(2))


def test_nothing_drawn_measures_nothing() -> None:
    found = quality([record()], lambda _: None, Clip(lambda *_: [], lambda _: []))
    assert found.images == 0
    assert math.isnan(found.similarity)
    assert math.isnan(found.diversity)


def test_similarity_is_the_models_own_cosine(clip_folder: Path) -> None:
    pictures, prompts = [noise(0), noise(1)], ["a photo of three cats", "dogs"]
    found = load_clip(clip_folder).similarity(pictures, prompts)
    model, processor = CLIPModel.from_pretrained(clip_folder).eval(), CLIPProcessor.from_pretrained(clip_folder)
    with torch.no_grad():
        logits = model(**processor(text=prompts, images=pictures, return_tensors="pt", padding=True)).logits_per_image
    expected = (logits / model.logit_scale.exp()).diagonal().tolist()
    assert found == pytest.approx(expected, abs=1e-5)


def test_features_of_a_picture_do_not_depend_on_its_neighbours(clip_folder: Path) -> None:
    clip = load_clip(clip_folder)
    (alone,) = clip.features([noise(0)])
    _, beside = clip.features([noise(1), noise(0)])
    assert [tuple(layer.shape) for layer in alone] == [(17, 16), (17, 16)]
    assert perceptual_distance(alone, beside) == pytest.approx(0, abs=1e-5)
    assert perceptual_distance(alone, clip.features([noise(1)])[0]) > 1e-4


def test_the_report_shows_likeness_and_diversity(clip_folder: Path, tmp_path: Path, capsys) -> None:
    run = table_run(tmp_path / "run")
    assert main([str(run), "--all", "--clip", str(clip_folder)]) == 0
    printed = capsys.readouterr().out
    assert "CLIP similarity" in printed
    main([str(run), "--clip", str(clip_folder), "--json"])
    (plain, auto) = json.loads(capsys.readouterr().out)["sections"][0]["methods"]
    assert (plain["quality"]["images"], auto["quality"]["images"]) == (8, 7)
    assert auto["quality"]["diversity"] > 0
