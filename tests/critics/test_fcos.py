"""FCOS as a critic: equal to torchvision's own detector, and differentiable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from countgen.benchmarks.miniature.world import Rendered, Scene, load_sprites, render, sample_scenes
from countgen.critics.detectors import fcos
from countgen.critics.weights import read, write
from countgen.miniature import FOLDER
from countgen.miniature.world import OBJECT_NAMES

JUDGE = FOLDER / "judge" / "model.safetensors"


@pytest.fixture(scope="module")
def critic() -> fcos.FCOSCritic:
    return fcos.load(weights=JUDGE)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return sample_scenes(60, np.random.default_rng(0), max_count=15, uniform=True)


@pytest.fixture(scope="module")
def rendered(scenes: list[Scene]) -> Rendered:
    return render(scenes, load_sprites(), torch.Generator().manual_seed(0))


def stock_counts(critic: fcos.FCOSCritic, images: Tensor) -> Tensor:
    critic.detector.score_thresh = 0.5
    with torch.no_grad():
        found = critic.detector(list(images))
    return torch.stack([torch.bincount(image["labels"], minlength=24) for image in found])


@pytest.mark.slow
def test_counts_equal_torchvisions_own_post_processing(
    critic: fcos.FCOSCritic, rendered: Rendered, scenes: list[Scene]
) -> None:
    expected = stock_counts(critic, rendered.images)
    right = 0
    for image, scene, row in zip(rendered.images, scenes, expected, strict=True):
        kinds = [kind for kind, _ in scene.groups]
        found = critic.counts(image[None], [OBJECT_NAMES[kind] for kind in kinds])[0].tolist()
        assert found == row[kinds].tolist()
        right += found == [count for _, count in scene.groups]
    assert right >= 56


def test_counts_equal_torchvisions_for_an_image_of_another_size(critic: fcos.FCOSCritic, rendered: Rendered) -> None:
    larger = torch.nn.functional.interpolate(rendered.images[:6], size=(200, 160), mode="bicubic").clamp(0, 1)
    expected = stock_counts(critic, larger)
    kinds = expected.sum(0).nonzero()[:3, 0].tolist()
    assert critic.counts(larger, [OBJECT_NAMES[kind] for kind in kinds]).tolist() == expected[:, kinds].tolist()
    boxes = critic.propose(larger, ["apple"]).boxes
    assert float(boxes[..., 0::2].max()) <= 160
    assert 128 < float(boxes[..., 1::2].max()) <= 200


def test_weights_without_names_or_of_another_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no detector weights"):
        fcos.load(weights=tmp_path / "missing.safetensors")
    tensors, names, threshold = read(JUDGE)
    assert names == OBJECT_NAMES
    assert threshold == 0.5
    write(tmp_path / "other.safetensors", tensors, names[:5])
    with pytest.raises(ValueError, match="does not hold the weights"):
        fcos.load(weights=tmp_path / "other.safetensors")
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(1)}, tmp_path / "nameless.safetensors")
    with pytest.raises(ValueError, match="has no object names"):
        fcos.load(weights=tmp_path / "nameless.safetensors")
