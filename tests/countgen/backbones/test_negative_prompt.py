"""A negative prompt gives the stock pipeline's image, and is refused where it would change nothing."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch

import countgen
from countgen.backbones import Preset
from countgen.recipe import regenerate

GUIDED = ("stable_diffusion", "stable_diffusion_xl", "pixart", "stable_diffusion_3", "z_image")
PROMPT, NEGATIVE = "a photo of three cats", "two dogs, blurry"


CASES = [("stable_diffusion", 0.0), ("flux", 3.5), ("sana", 4.5), ("z_image", 0.0), ("flux2", 4.0)]


def of_family(name: str, pipeline: Any, guidance_scale: float = 5.0) -> Any:
    preset = Preset("tiny", 2, guidance_scale, 32, 64, "none")
    return importlib.import_module(f"countgen.backbones.{name}").BACKBONE(pipeline, preset, name)


@pytest.mark.parametrize("name", GUIDED)
def test_the_stock_pipelines_image_comes_out(name: str, tiny_pipeline: Callable[[str], Any]) -> None:
    backbone = of_family(name, tiny_pipeline(name))
    with torch.no_grad():
        latents = backbone.initial_latents([3])
        images = backbone.render(latents, backbone.encode_prompt(PROMPT, NEGATIVE), [3])
        plain = backbone.render(latents, backbone.encode_prompt(PROMPT), [3])
    stock = backbone.pipeline(
        PROMPT,
        negative_prompt=NEGATIVE,
        num_inference_steps=2,
        guidance_scale=5.0,
        height=32,
        width=64,
        generator=torch.Generator().manual_seed(3),
        output_type="pt",
        **({"use_resolution_binning": False} if name == "pixart" else {}),
    ).images
    assert (images - plain).abs().max() > 1e-4, "the negative prompt does not show"
    torch.testing.assert_close(images, stock, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("name", "guidance_scale"), CASES)
def test_it_is_refused_without_guidance(name: str, guidance_scale: float, tiny_pipeline: Callable[[str], Any]) -> None:
    with pytest.raises(ValueError, match="a negative prompt needs guidance"):
        of_family(name, tiny_pipeline(name), guidance_scale).encode_prompt(PROMPT, NEGATIVE)


def test_the_recipe_keeps_it() -> None:
    models = countgen.load("miniature", guidance_scale=3.0, device="cpu")
    results = [
        countgen.generate("two cats", models, method="plain", negative_prompt=negative) for negative in (None, "apples")
    ]
    assert results[1].recipe["negative_prompt"] == "apples"
    assert not torch.equal(results[0].image, results[1].image)
    assert torch.equal(regenerate(results[1].recipe, models.backbone), results[1].image)
