"""Measures with models are what their definitions say, and local files measure them."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import alexnet
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.transforms.functional import normalize, pil_to_tensor
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

from countgen.benchmarks.evaluation.quality import Clip, QualityModels, perceptual_distance, preference, quality
from countgen.benchmarks.evaluation.quality_models import load_alexnet, load_clip
from countgen.benchmarks.evaluation.records import RECORDS, Record
from countgen.benchmarks.evaluation.report.__main__ import main
from countgen.images import save_png
from countgen.miniature import FOLDER
from tests.benchmarks.evaluation.made_records import record, table_run

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

    def path(one: Record, before: bool = False) -> Path:
        return tmp_path / ("4.jpg" if one.prompt == "c" else f"{one.seed}.png")

    found = quality(records, path, QualityModels(clip))
    assert found is not None
    assert (found.images, found.pairs) == (5, 0)
    assert found.similarity == pytest.approx((3 * 0.3 + 2 * 0.1) / 5)
    assert found.diversity == pytest.approx(2)
    assert math.isnan(found.preferred)


def test_nothing_drawn_measures_nothing() -> None:
    clip = Clip(lambda *_: [], lambda _: [])
    found = quality([record()], lambda *_, **__: None, QualityModels(clip, clip, lambda _: []))
    assert found is not None
    assert (found.images, found.pairs) == (0, 0)
    assert all(map(math.isnan, (found.similarity, found.diversity, found.preferred, found.distance)))
    assert quality([record()], lambda *_, **__: None, QualityModels()) is None


def test_images_are_compared_with_the_plain_ones_of_their_seeds(tmp_path: Path) -> None:
    for name in ("a", "b", "plain"):
        save_png(noise(ord(name[0])), tmp_path / f"{name}.png")
    images = {0: "a", 1: "b", 2: "plain"}  # the last image is its own plain image
    closeness = {noise(ord("a")).tobytes(): 0.3, noise(ord("b")).tobytes(): 0.1, noise(ord("p")).tobytes(): 0.2}

    def path(one: Record, before: bool = False) -> Path:
        return tmp_path / ("plain.png" if before else f"{images[one.seed]}.png")

    def network(pictures: list[Image.Image]) -> list[list[Tensor]]:
        return [[torch.tensor([[1.0, closeness[picture.tobytes()]]])] for picture in pictures]

    scorer = Clip(lambda pictures, _: [closeness[one.tobytes()] for one in pictures], network, scale=10.0)
    found = quality([record(seed=seed) for seed in range(3)], path, QualityModels(None, scorer, network))
    assert found is not None
    assert (found.images, found.pairs) == (0, 2)
    assert found.preferred == pytest.approx((1 / (1 + math.exp(-1)) + 1 / (1 + math.exp(1))) / 2)
    a, b, plain = (network([noise(ord(name))])[0] for name in "abp")
    assert found.distance == pytest.approx((perceptual_distance(a, plain) + perceptual_distance(b, plain)) / 2)
    assert found.distance > 0


def test_similarity_is_the_models_own_cosine(clip_folder: Path) -> None:
    pictures, prompts = [noise(0), noise(1)], ["a photo of three cats", "dogs"]
    found = load_clip(clip_folder).similarity(pictures, prompts)
    model, processor = CLIPModel.from_pretrained(clip_folder).eval(), CLIPProcessor.from_pretrained(clip_folder)
    with torch.no_grad():
        logits = model(**processor(text=prompts, images=pictures, return_tensors="pt", padding=True)).logits_per_image
    expected = (logits / model.logit_scale.exp()).diagonal().tolist()
    assert found == pytest.approx(expected, abs=1e-5)


def test_preference_is_the_softmax_of_the_models_own_logits(clip_folder: Path) -> None:
    pictures, prompt = [noise(0), noise(1)], "a photo of three cats"
    model, processor = CLIPModel.from_pretrained(clip_folder).eval(), CLIPProcessor.from_pretrained(clip_folder)
    with torch.no_grad():
        logits = model(**processor(text=[prompt], images=pictures, return_tensors="pt")).logits_per_text
    expected = logits.softmax(-1)[0].tolist()
    clip = load_clip(clip_folder)
    assert preference(clip, prompt, *pictures) == pytest.approx(expected[0], abs=1e-4)
    assert preference(clip, prompt, *reversed(pictures)) == pytest.approx(expected[1], abs=1e-4)


@pytest.fixture(scope="module")
def alexnet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of AlexNet's features, with the names of torchvision."""
    with torch.device("meta"):
        network = alexnet()
    generator = torch.Generator().manual_seed(0)
    names = {name: value.shape for name, value in network.state_dict().items() if name.startswith("features.")}
    tensors = {name: 0.05 * torch.randn(shape, generator=generator) for name, shape in names.items()}
    path = tmp_path_factory.mktemp("alexnet") / "alexnet.safetensors"
    save_file(tensors, path)
    torch.save(tensors, path.with_suffix(".pth"))
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_alexnets_features_are_those_of_torchvision_after_each_relu(alexnet_file: Path, suffix: str) -> None:
    picture = noise(0).resize((96, 80))
    (found,) = load_alexnet(alexnet_file.with_suffix(suffix))([picture])
    with torch.device("meta"):
        stock = alexnet().features
    stock.load_state_dict(
        {name.removeprefix("features."): value for name, value in torch.load(alexnet_file.with_suffix(".pth")).items()},
        assign=True,
    )
    nodes = {str(place): str(place) for place in (1, 4, 7, 9, 11)}
    values = normalize(pil_to_tensor(picture) / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = create_feature_extractor(stock.eval(), nodes)(values[None])
    for mine, theirs in zip(found, expected.values(), strict=True):
        torch.testing.assert_close(mine, theirs[0].flatten(1).T)


def test_a_small_image_is_enlarged_to_what_alexnet_reads(alexnet_file: Path) -> None:
    (found,) = load_alexnet(alexnet_file)([noise(0)])
    assert all(layer.isfinite().all() for layer in found)


@pytest.mark.parametrize("kind", ["missing", "ending", "other", "pickle", "torn", "list"])
def test_weights_that_are_no_alexnet_are_refused(alexnet_file: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("weights.bin" if kind == "ending" else "weights.pth")
    contents = {"other": {"features.0.weight": torch.zeros(1)}, "pickle": Path(), "list": [torch.zeros(1)]}
    if kind in contents:
        torch.save(contents[kind], path)
    elif kind == "torn":
        path.write_bytes(alexnet_file.with_suffix(".pth").read_bytes()[:1000])
    elif kind == "ending":
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=re.escape(str(path))):
        load_alexnet(path)


def test_a_clip_folder_without_some_of_its_parts_is_refused(clip_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no CLIP model"):
        load_clip(tmp_path)
    (tmp_path / "config.json").write_bytes((clip_folder / "config.json").read_bytes())
    with pytest.raises(ValueError, match="holds no complete CLIP model"):
        load_clip(tmp_path)


def test_features_of_a_picture_do_not_depend_on_its_neighbours(clip_folder: Path) -> None:
    clip = load_clip(clip_folder)
    (alone,) = clip.features([noise(0)])
    _, beside = clip.features([noise(1), noise(0)])
    assert [tuple(layer.shape) for layer in alone] == [(17, 16), (17, 16)]
    assert perceptual_distance(alone, beside) == pytest.approx(0, abs=1e-5)
    assert perceptual_distance(alone, clip.features([noise(1)])[0]) > 1e-4


def test_the_report_shows_what_the_models_measure(
    clip_folder: Path, alexnet_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = table_run(tmp_path / "run")
    lines = (run / RECORDS).read_text()
    (run / RECORDS).write_text(re.sub(r'"before":"([^"]*)auto-', r'"before":"\1plain-', lines))
    folder, file = str(clip_folder), str(alexnet_file)
    assert main([str(run), "--all", "--clip", folder, "--preference", folder, "--perceptual", file]) == 0
    printed = capsys.readouterr().out
    assert "CLIP similarity" in printed
    assert re.search(r"preferred to plain, %\s+-\s+\d+", printed)
    assert re.search(r"distance to plain\s+-\s+\d\.\d+", printed)
    main([str(run), "--clip", str(clip_folder), "--json"])
    (plain, auto) = json.loads(capsys.readouterr().out)["sections"][0]["methods"]
    assert (plain["quality"]["images"], auto["quality"]["images"]) == (8, 7)
    assert auto["quality"]["diversity"] > 0
