"""Training of the detectors, with few steps: data, losses, stages, resume, export."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from countgen.critics.detectors import centernet, density, fcos, yolo
from countgen.miniature import DETECTORS, load_detector
from countgen.miniature.training import density_calibration, detectors
from countgen.miniature.training.detector_accuracy import density_counter, detector_counter, exact
from countgen.miniature.training.detector_data import MOST_OBJECTS, Batch, Pool, SceneSource, attack, degrade
from countgen.miniature.training.detector_losses import centre_map, yolo_loss
from countgen.miniature.training.generator import FAMILIES, Generator, decode, read_generator
from countgen.miniature.training.loop import RANDOM, StageSettings
from countgen.miniature.world import OBJECT_NAMES

FOLDER = detectors.MINIATURE


@pytest.fixture(scope="module")
def generator() -> tuple[Generator, nn.Module]:
    found, vae = read_generator(FAMILIES["unet"], FAMILIES["unet"].folder)
    return found.eval().requires_grad_(False), vae


@pytest.fixture(scope="module")
def source(generator: tuple[Generator, nn.Module]) -> SceneSource:
    return SceneSource(generator[1], generator[0], 0, "cpu")


@pytest.fixture(scope="module")
def batch(source: SceneSource) -> Batch:
    return source.make(6)


def settings(out: Path, iterations: int) -> StageSettings:
    return StageSettings(out=out, iterations=iterations, batch_size=4, number=4)


def test_images_have_labels(batch: Batch) -> None:
    assert batch.images.shape == (6, 3, 128, 128)
    assert batch.boxes.shape == (6, MOST_OBJECTS, 4)
    assert torch.equal(batch.counts(24).sum(1), batch.present.sum(1))


@pytest.mark.parametrize("kind", ["rendered", "round trip", "styled"])
def test_an_independent_judge_counts_the_labelled_objects(generator: tuple[Generator, nn.Module], kind: str) -> None:
    source = SceneSource(
        generator[1], generator[0], 0, "cpu"
    )  # a new source, so that images do not depend on the order of tests
    judge = fcos.load(weights=FOLDER / "judge" / "model.safetensors")
    images = source.make(12, counts=(1, 8), kind=kind)
    assert float(exact(detector_counter(judge), images, [0.5])[0]) >= 0.7


@pytest.mark.parametrize("name", DETECTORS)
def test_counting_all_objects_together_equals_the_critic(source: SceneSource, name: str) -> None:
    critic = load_detector(name)
    counter = density_counter(critic.counter) if isinstance(critic, density.DensityCritic) else detector_counter(critic)
    images = source.make(6, counts=(2, 9), kind="round trip").images
    # Blended images have many boxes with scores near the threshold.
    images = torch.cat([images, (images + images.roll(1, 0)) / 2])
    with torch.no_grad():
        found = counter(images, [0.2, critic.settings.threshold])[1]
    assert torch.equal(found, critic.counts(images, OBJECT_NAMES))


def test_a_range_of_counts_is_kept(source: SceneSource) -> None:
    totals = source.make(6, counts=(11, 13), kind="rendered").present.sum(1)
    assert ((totals >= 11) & (totals <= 13)).all()


def test_a_pool_is_refreshed(source: SceneSource) -> None:
    pool = Pool(source, 2)
    before = pool.parts[0].clone()
    pool.refresh()
    assert not torch.equal(before, pool.parts[0])
    assert pool.draw(3).images.shape == (3, 3, 128, 128)


def test_augmented_images_keep_boxes_on_their_objects(batch: Batch) -> None:
    torch.manual_seed(0)
    marked = torch.zeros(6, 3, 128, 128)
    boxes = torch.tensor([[[16.0, 32.0, 48.0, 64.0]]]).expand(6, 1, 4)
    marked[:, :, 32:64, 16:48] = 1.0
    one = torch.ones(6, 1, dtype=torch.bool)
    for _ in range(8):
        shown = degrade(Batch(marked, boxes, one.long(), one, batch.latents), sizes=(160,))
        for image, (x1, y1, x2, y2) in zip(shown.images, shown.boxes[:, 0].int().tolist(), strict=True):
            assert float(image[:, y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].mean()) > 0.6 > float(image.mean()) + 0.2


def test_an_attack_increases_the_loss_and_changes_the_image_little(
    batch: Batch, generator: tuple[Generator, nn.Module]
) -> None:
    network = yolo.load(
        weights=FOLDER / "critic" / "model.safetensors", config=FOLDER / "critic" / "yolo11n.yaml", image_size=128
    ).model
    loss = yolo_loss(network)
    torch.manual_seed(0)
    attacked = attack(batch, generator[1], loss)
    plain = Batch(
        decode(generator[1], batch.latents).clamp(0, 1),
        batch.boxes,
        batch.labels,
        batch.present,
        batch.latents,
    )
    assert float(loss(attacked)) > 1.1 * float(loss(plain))
    assert float((attacked.latents - batch.latents).square().mean().sqrt()) < 0.15
    assert float((attacked.images - plain.images).abs().mean()) < 0.05


def test_the_heat_map_is_one_only_at_the_centres(batch: Batch) -> None:
    heat, centre, index = centre_map(batch, 24, 32, 32)
    present = batch.present
    row = present.nonzero()[:, 0]
    at = heat.flatten(2)[row, batch.labels[present], index[present]]
    assert torch.equal(at, torch.ones_like(at))
    assert int((heat == 1).sum()) <= int(present.sum())
    assert centre[present].min() >= 0
    assert centre[present].max() <= 32


def test_a_perfect_density_map_counts_exactly(batch: Batch) -> None:
    def perfect(images: Tensor) -> Tensor:
        maps = torch.zeros(len(images), 24, 32, 32)
        maps[:, :, 0, 0] = batch.counts(24).float() + 0.2
        return maps

    assert float(exact(density_counter(perfect), batch, [0.5])[0]) == 1.0


def test_heatmap_stage_trains_resumes_and_exports_a_critic(tmp_path: Path) -> None:
    detectors.heatmap(settings(tmp_path, 1))
    first_scenes = (tmp_path / "pool.png").read_bytes()
    detectors.heatmap(settings(tmp_path, 2))
    assert (tmp_path / "pool.png").read_bytes() != first_scenes, "a resumed stage should not repeat its scenes"
    iterations = [json.loads(line)["iteration"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert iterations[0] == 1
    critic = centernet.load(weights=tmp_path / "model.safetensors")
    assert critic.object_names == OBJECT_NAMES
    accuracy = json.loads((tmp_path / "accuracy.json").read_text())
    assert accuracy["threshold"] == critic.settings.threshold
    assert "styled 11-15" in accuracy
    assert (tmp_path / "model.safetensors").stat().st_size <= 1.6e6


def test_critic_stage_starts_from_the_shipped_weights_and_exports_a_critic(tmp_path: Path) -> None:
    detectors.critic(settings(tmp_path, 1))
    critic = yolo.load(weights=tmp_path / "model.safetensors", config=tmp_path / "yolo11n.yaml", image_size=128)
    shipped = yolo.load(
        weights=FOLDER / "critic" / "model.safetensors", config=FOLDER / "critic" / "yolo11n.yaml", image_size=128
    )
    image = torch.rand(1, 3, 128, 128)
    found, before = (model.propose(image, ["cat"]).logits for model in (critic, shipped))
    assert 0 < float((found - before).abs().mean()) < 0.5


def test_critic_stage_also_starts_from_random_weights(tmp_path: Path) -> None:
    detectors.critic(dataclasses.replace(settings(tmp_path, 1), init=RANDOM))
    config = FOLDER / "critic" / "yolo11n.yaml"
    critic = yolo.load(weights=tmp_path / "model.safetensors", config=config, image_size=128)
    shipped = yolo.load(weights=FOLDER / "critic" / "model.safetensors", config=config, image_size=128)
    image = torch.rand(1, 3, 128, 128)
    found, before = (model.propose(image, ["cat"]).logits for model in (critic, shipped))
    assert float((found - before).abs().mean()) > 0.5


def test_judge_stage_trains_and_exports_a_critic(tmp_path: Path) -> None:
    detectors.judge(settings(tmp_path, 1))
    assert fcos.load(weights=tmp_path / "model.safetensors").object_names == OBJECT_NAMES


def test_after_calibration_the_map_of_every_object_sums_to_its_count() -> None:
    counter = density.load(weights=FOLDER / "density" / "model.safetensors").counter
    shipped = counter.head.bias.clone()
    assert float((density_calibration.calibrate(counter, 4) - 1).abs().max()) < 0.1
    counter.head.bias += 0.2
    factors = density_calibration.calibrate(counter, 4)
    torch.testing.assert_close(factors, torch.full((24,), 0.8187), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(counter.head.bias, shipped, rtol=0, atol=0.1)


def test_density_stage_trains_and_exports_a_critic(tmp_path: Path) -> None:
    detectors.density(settings(tmp_path, 1))
    critic = density.load(weights=tmp_path / "model.safetensors")
    assert critic.object_names == OBJECT_NAMES
    assert critic.counts(torch.rand(2, 3, 128, 128), ["cat", "dogs"]).shape == (2, 2)
    assert (tmp_path / "model.safetensors").stat().st_size <= 1.1e6
