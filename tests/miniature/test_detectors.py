"""Training of the detectors, with few steps: data, losses, stages, resume, export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from countgen.benchmarks.miniature import detector_accuracy
from countgen.benchmarks.miniature.__main__ import main
from countgen.benchmarks.miniature.detector_accuracy import exact
from countgen.benchmarks.miniature.detector_data import KINDS, Batch, SceneSource, degrade
from countgen.benchmarks.miniature.generator import SHIPPED, Generator, read_generator
from countgen.critics import load
from countgen.miniature import DETECTORS, JUDGE, load_detector
from countgen.miniature.world import OBJECT_NAMES


@pytest.fixture(scope="module")
def generator() -> tuple[Generator, Any]:
    return read_generator(SHIPPED)


@pytest.fixture(scope="module")
def source(generator: tuple[Generator, Any]) -> SceneSource:
    return SceneSource(generator[1], generator[0], 0, "cpu")


@pytest.fixture(scope="module")
def batch(source: SceneSource) -> Batch:
    return source.make(6)


@pytest.mark.parametrize("kind", KINDS)
def test_an_independent_judge_counts_the_labelled_objects(generator: tuple[Generator, Any], kind: str) -> None:
    source = SceneSource(generator[1], generator[0], 0, "cpu")  # its images depend on no other test
    images = source.make(12, counts=(1, 8), kind=kind)
    assert float(exact(load_detector(JUDGE), images, [0.5])[0]) >= 0.7


def test_augmented_images_keep_boxes_on_their_objects(batch: Batch) -> None:
    torch.manual_seed(0)
    marked = torch.zeros(6, 3, 128, 128)
    boxes = torch.tensor([[[16.0, 32.0, 48.0, 64.0]]]).expand(6, 1, 4)
    marked[:, :, 32:64, 16:48] = 1.0
    present = torch.ones(6, 1, dtype=torch.bool)
    for _ in range(8):
        augmented = degrade(Batch(marked, boxes, present.long(), present, batch.latents), sizes=(160,))
        for image, (x1, y1, x2, y2) in zip(augmented.images, augmented.boxes[:, 0].int().tolist(), strict=True):
            assert float(image[:, y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].mean()) > 0.6 > float(image.mean()) + 0.2


STAGES = {"critic": "yolo", "judge": "fcos", "heatmap": "heatmap", "density": "density"}
"""The embedded detector of each stage."""


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_trains_resumes_and_exports_a_critic(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detector_accuracy, "THRESHOLDS", (0.25, 0.375, 0.5))
    command = [stage, "--device", "cpu", "--out", str(tmp_path), "--batch-size", "4", "--number", "4"]
    embedded = DETECTORS[f"miniature-{STAGES[stage]}"]
    for iterations in ("1", "2"):
        main([*command, "--iterations", iterations, "--init", str(embedded.options["weights"])])
    log = [json.loads(line)["iteration"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert log == [1, 2]
    options = {**embedded.options, "weights": tmp_path / "model.safetensors"}
    if stage == "critic":
        options["config"] = tmp_path / "yolo11n.yaml"
    trained = load(embedded.kind, **options)
    assert trained.object_names == OBJECT_NAMES
    accuracy = json.loads((tmp_path / "accuracy.json").read_text())
    assert accuracy["threshold"] == trained.settings.threshold or not trained.detects
    assert ("styled 11-15" in accuracy) is (stage != "judge")
    after, before = (load_file(chosen["weights"]) for chosen in (options, embedded.options))
    assert after.keys() == before.keys()
    assert any(not torch.equal(after[name], before[name]) for name in before)
    assert options["weights"].stat().st_size <= 1.01 * embedded.options["weights"].stat().st_size
