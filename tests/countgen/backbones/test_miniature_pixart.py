"""The miniature's PixArt model end to end, in one step and in several."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import countgen
from countgen import backbones

MULTI_STEP = Path(__file__).parents[4] / "shared" / "miniature" / "mini-pixart"
needs_multi_step = pytest.mark.skipif(
    not MULTI_STEP.is_dir(), reason="the multi-step miniature is not distributed; it lies beside the repository"
)


@pytest.fixture(scope="module")
def pixart() -> countgen.Models:
    return countgen.load("miniature-pixart", device="cpu")


def test_the_prediction_type_comes_from_the_checkpoint(pixart: countgen.Models) -> None:
    assert pixart.backbone.pipeline.scheduler.config.prediction_type == "v_prediction"
    with torch.no_grad():
        embeds = pixart.backbone.encode_prompt("a photo of four cats")
        image = pixart.backbone.render(pixart.backbone.initial_latents([2]), embeds, [2])
    stock = pixart.backbone.pipeline(
        "a photo of four cats",
        num_inference_steps=1,
        timesteps=[400],
        guidance_scale=1.0,
        height=128,
        width=128,
        generator=torch.Generator().manual_seed(2),
        output_type="pt",
        use_resolution_binning=False,
    ).images
    torch.testing.assert_close(image, stock, atol=1e-4, rtol=0)


def test_the_one_step_transformer_reaches_a_confirmed_count(pixart: countgen.Models) -> None:
    result = countgen.generate("a photo of four cats", pixart, seed=1, max_evaluations=200)
    assert result.confirmed
    assert result.counts == (4,)
    assert result.verified


def test_gradients_change_the_image_of_the_one_step_transformer(pixart: countgen.Models) -> None:
    result = countgen.generate("a photo of nine apples", pixart, method="noise", seed=2, max_evaluations=30)
    assert result.evaluations >= 3
    assert not torch.equal(result.image, result.before)


@pytest.mark.slow
@needs_multi_step
def test_the_multi_step_transformer_equals_its_stock_pipeline_and_its_objects_are_counted(
    models: countgen.Models,
) -> None:
    backbone = backbones.load(
        "miniature-pixart",
        repository=str(MULTI_STEP),
        num_inference_steps=14,
        guidance_scale=4.5,
        timesteps=None,
    )
    multi_step = countgen.Models(backbone, models.critics, models.judge)
    run = countgen.Run("a photo of two dogs", multi_step, method="plain", seed=5)
    (step,) = run
    stock = backbone.pipeline(
        "a photo of two dogs",
        num_inference_steps=14,
        guidance_scale=4.5,
        height=128,
        width=128,
        generator=torch.Generator().manual_seed(5),
        output_type="pt",
        use_resolution_binning=False,
    ).images
    torch.testing.assert_close(step.image[None], stock, atol=1e-4, rtol=0)
    assert step.counts == (2,)
    assert step.confirmed


@needs_multi_step
def test_a_gradient_passes_through_every_step() -> None:
    backbone = backbones.load(
        "miniature-pixart",
        repository=str(MULTI_STEP),
        num_inference_steps=4,
        guidance_scale=4.5,
        timesteps=None,
        memory="low",
    )
    with torch.no_grad():
        embeds = backbone.encode_prompt("a photo of two dogs")
    latents = backbone.initial_latents([5]).requires_grad_(True)
    backbone.render(latents, embeds, [5]).square().sum().backward()
    assert latents.grad is not None
    assert torch.isfinite(latents.grad).all()
    assert latents.grad.abs().max() > 0
