"""CountedGeneration around the blocks of the installed diffusers, on the embedded model."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ClassifierFreeGuidance, ModularPipelineBlocks, StableDiffusionXLAutoBlocks
from diffusers.utils import dynamic_modules_utils, logging

import countgen
from countgen.app import modular
from countgen.app.modular.block import CountCritic, CountedGeneration
from countgen.critics.validation import to_batch
from countgen.miniature import CRITICS, FOLDER

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:diffusers.*")
PROMPT = "a photo of seven apples"
SIZE = {"num_inference_steps": 1, "height": 128, "width": 128}


@pytest.fixture(autouse=True)
def quiet() -> Any:
    """Guiders are experimental, as diffusers logs each time."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    yield
    logging.set_verbosity(level)


def loaded(blocks: ModularPipelineBlocks) -> Any:
    pipeline = blocks.init_pipeline(str(FOLDER / "mini-sdxl-turbo"))
    pipeline.load_components(dtype=torch.float32)
    pipeline.update_components(guider=ClassifierFreeGuidance(guidance_scale=1.0))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def pipeline() -> Any:
    pipeline = loaded(CountedGeneration())
    pipeline.update_components(critic=CountCritic(",".join(CRITICS)))
    return pipeline


def test_seeds_are_tried_until_the_count_is_confirmed(pipeline: Any, models: countgen.Models) -> None:
    state = pipeline(prompt=PROMPT, seed=1, max_images=8, **SIZE)
    assert type(pipeline).__name__ == "StableDiffusionXLModularPipeline"
    assert state.confirmed
    assert state.probability >= 0.98
    assert state.counts_found == {"apple": 7}
    assert state.image_seed == state.images_made == 2, "the plain image of seed 1 has six"
    assert models.judge is not None
    assert models.judge.counts(to_batch(state.images[0]), ["apple"]).item() == 7


def test_the_image_is_that_of_the_blocks_alone_with_its_seed(pipeline: Any) -> None:
    state = pipeline(prompt=PROMPT, seed=1, max_images=8, **SIZE)
    alone = loaded(StableDiffusionXLAutoBlocks().get_workflow("text2image"))
    image = alone(prompt=PROMPT, generator=torch.Generator().manual_seed(state.image_seed), **SIZE).images[0]
    assert np.array_equal(np.asarray(image), np.asarray(state.images[0]))


def test_the_best_image_is_returned_when_none_is_confirmed(pipeline: Any) -> None:
    state = pipeline(prompt="apples on a table", counts="apple=40", max_images=3, output_type="pt", **SIZE)
    assert (state.confirmed, state.images_made, len(state.images)) == (False, 3, 1)
    assert 0 < state.counts_found["apple"] < 40
    with pytest.raises(ValueError, match="contains no number"):
        pipeline(prompt="apples on a table", **SIZE)
    with pytest.raises(ValueError, match="max_images must be at least 1"):
        pipeline(prompt=PROMPT, max_images=0, **SIZE)


def test_its_folder_is_loaded_as_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamic_modules_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    folder = shutil.copytree(Path(modular.__file__).parent, tmp_path / "counted-generation")
    blocks = ModularPipelineBlocks.from_pretrained(str(folder), trust_remote_code=True)
    assert type(blocks).__name__ == "CountedGeneration"
    assert type(blocks).__module__ != CountedGeneration.__module__
    pipeline = blocks.init_pipeline(str(FOLDER / "mini-sdxl-turbo"))
    assert pipeline.critic.config.detectors == "auto"
    CountedGeneration().save_pretrained(tmp_path / "saved")
    saved, shipped = (json.loads((path / "modular_config.json").read_text()) for path in (tmp_path / "saved", folder))
    assert shipped == saved | {"_diffusers_version": shipped["_diffusers_version"]}
