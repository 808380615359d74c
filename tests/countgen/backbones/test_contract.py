"""The contract of every family on tiny random pipelines: the stock pipeline's image, with gradient."""

from __future__ import annotations

import copy
import importlib
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from countgen import backbones
from countgen.backbones import Backbone, Preset, PromptEmbeds
from countgen.number_slider import NumberShift, encode_shifted

PROMPT = "a photo of three cats"
HEIGHT, WIDTH = 32, 64
"""Height and width in pixels; not square, so that a test fails if a family swaps them."""

# Pipeline, steps, guidance, explicit timesteps.
CASES = {
    "stable_diffusion, one step": ("stable_diffusion", 1, 0.0, None),
    "stable_diffusion, several steps": ("stable_diffusion", 4, 0.0, None),
    "stable_diffusion, guided": ("stable_diffusion", 4, 7.5, None),
    "stable_diffusion_xl, one step": ("stable_diffusion_xl", 1, 0.0, None),
    "stable_diffusion_xl, explicit timestep": ("stable_diffusion_xl lcm", 1, 0.0, (800,)),
    "stable_diffusion_xl, noise between steps": ("stable_diffusion_xl", 4, 0.0, None),
    "stable_diffusion_xl, guided": ("stable_diffusion_xl", 4, 5.0, None),
    "pixart, one step": ("pixart one step", 1, 1.0, (400,)),
    "pixart, several steps": ("pixart", 4, 1.0, None),
    "pixart, guided": ("pixart", 4, 4.5, None),
    "pixart, size conditions": ("pixart sized", 4, 4.5, None),
    "pixart sigma, guided": ("pixart sigma", 4, 4.5, None),
    "flux, one step": ("flux", 1, 0.0, None),
    "flux, several steps": ("flux", 4, 0.0, None),
    "flux, guided": ("flux guided", 4, 3.5, None),
    "stable_diffusion_3, one step": ("stable_diffusion_3", 1, 0.0, None),
    "stable_diffusion_3, several steps": ("stable_diffusion_3", 4, 0.0, None),
    "stable_diffusion_3, guided": ("stable_diffusion_3", 4, 7.0, None),
    "sana, one step": ("sana", 1, 4.5, None),
    "sana, two steps": ("sana", 2, 4.5, None),
    "sana, several steps, other guidance": ("sana", 4, 1.0, None),
    "z_image, one step": ("z_image", 1, 0.0, None),
    "z_image, several steps": ("z_image", 4, 0.0, None),
    "z_image, guided": ("z_image", 4, 0.5, None),
    "flux2, one step": ("flux2", 1, 1.0, None),
    "flux2, distilled": ("flux2", 4, 4.0, None),
    "flux2, guided": ("flux2 base", 4, 4.0, None),
}
NOISY = {"EulerAncestralDiscreteScheduler", "LCMScheduler", "SCMScheduler"}
NO_BINNING = {"use_resolution_binning": False}
STOCK_OPTIONS: dict[str, dict[str, Any]] = {"pixart": NO_BINNING, "sana": NO_BINNING}


def backbone_of(case: str, tiny_pipeline: Callable[[str], Any]) -> Backbone:
    name, steps, guidance, timesteps = CASES[case]
    preset = Preset("tiny", steps, guidance, HEIGHT, WIDTH, "none", timesteps=timesteps)
    backbone: Backbone = family(name).BACKBONE(tiny_pipeline(name), preset, name)
    return backbone


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tiny_pipeline: Callable[[str], Any]) -> Backbone:
    return backbone_of(request.param, tiny_pipeline)


@pytest.fixture(params={name.split(",")[0]: name for name in CASES}.values())
def per_family(request: pytest.FixtureRequest, tiny_pipeline: Callable[[str], Any]) -> Backbone:
    """Return one backbone of each family, with guidance or several steps where the family has them."""
    return backbone_of(request.param, tiny_pipeline)


def family(name: str) -> Any:
    return importlib.import_module(f"countgen.backbones.{name.split()[0]}")


def stock_images(backbone: Backbone, seeds: list[int]) -> Tensor:
    name = backbone.name.split()[0]
    options = dict(STOCK_OPTIONS.get(name, {}))
    if backbone.preset.timesteps is not None:
        options["timesteps"] = list(backbone.preset.timesteps)
    if name == "sana" and backbone.num_inference_steps != 2:
        options["intermediate_timesteps"] = None
    return backbone.pipeline(
        prompt=[PROMPT] * len(seeds),
        num_inference_steps=backbone.num_inference_steps,
        guidance_scale=backbone.guidance_scale,
        height=HEIGHT,
        width=WIDTH,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type="pt",
        **options,
    ).images


def test_render_equals_the_stock_pipeline(case: Backbone) -> None:
    seeds = [3, 4]
    with torch.no_grad():
        images = case.render(case.initial_latents(seeds), case.encode_prompt(PROMPT), seeds)
    assert images.shape == (2, 3, HEIGHT, WIDTH)
    assert (images[0] - images[1]).abs().mean() > 1e-3, "the seed has no effect"
    torch.testing.assert_close(images, stock_images(case, seeds), atol=1e-4, rtol=0)


def test_gradient_reaches_latents_and_prompt_embeddings_and_no_weight(case: Backbone) -> None:
    embeds = case.encode_prompt(PROMPT)
    prompt_embeds = embeds.prompt_embeds.detach().requires_grad_(True)
    latents = case.initial_latents([5]).requires_grad_(True)
    given = {**vars(embeds), "prompt_embeds": prompt_embeds}

    images = case.render(latents, PromptEmbeds(**given), [5])
    (images * torch.linspace(0, 1, WIDTH)).sum().backward()

    for tensor in (latents, prompt_embeds):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()
        assert tensor.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in case.denoiser.parameters())


def test_a_batch_equals_images_rendered_one_by_one(per_family: Backbone) -> None:
    with torch.no_grad():
        embeds = per_family.encode_prompt(PROMPT)
        together = per_family.render(per_family.initial_latents([6, 7]), embeds, [6, 7])
        alone = torch.cat([per_family.render(per_family.initial_latents([seed]), embeds, [seed]) for seed in (6, 7)])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_image_and_gradient_in_half_precision_are_close_to_float32(per_family: Backbone, dtype: torch.dtype) -> None:
    found = []
    for backbone in (per_family, in_precision(per_family, dtype)):
        with torch.no_grad():
            embeds = backbone.encode_prompt(PROMPT)
        latents = backbone.initial_latents([5]).requires_grad_(True)
        image = backbone.render(latents, embeds, [5])
        # The gradient of a count loss is this small; float16 without scaling would round it to zero.
        (image * torch.linspace(0, 1e-7, WIDTH)).sum().backward()
        assert latents.grad is not None
        found.append((image.detach(), latents.grad.double().flatten()))
    (image, gradient), (half, half_gradient) = found
    assert (half.dtype, half_gradient.isfinite().all()) == (torch.float32, True)
    off, least = {torch.float16: (0.002, 0.999), torch.bfloat16: (0.012, 0.98)}[dtype]
    # The mean: where a decoder divides by a norm near zero, single pixels differ by whatever the processor rounds.
    assert (half - image).abs().mean() < off
    assert torch.cosine_similarity(gradient, half_gradient, 0) > least
    assert float(half_gradient.norm()) == pytest.approx(float(gradient.norm()), rel=0.05)


def in_precision(backbone: Backbone, dtype: torch.dtype) -> Backbone:
    """Return a copy of a backbone with its weights in another dtype."""
    pipeline = copy.copy(backbone.pipeline)
    for name, component in backbone.pipeline.components.items():
        if isinstance(component, torch.nn.Module):
            setattr(pipeline, name, copy.deepcopy(component).to(dtype))
    return type(backbone)(pipeline, backbone.preset, backbone.name)


def test_every_family_has_a_tiny_pipeline_presets_and_a_backbone() -> None:
    assert {pipeline.split()[0] for pipeline, *_ in CASES.values()} == set(backbones.families())
    for name in backbones.families():
        module = family(name)
        assert issubclass(module.BACKBONE, Backbone)
        assert module.PRESETS
        for preset in module.PRESETS.values():
            assert preset.licence
            assert preset.num_inference_steps >= 1


def test_stochastic_samplers_require_seeds_and_their_number_must_match_the_latents(per_family: Backbone) -> None:
    stochastic = per_family.num_inference_steps > 1 and type(per_family.pipeline.scheduler).__name__ in NOISY
    with torch.no_grad():
        embeds, latents = per_family.encode_prompt(PROMPT), per_family.initial_latents([3, 4])
        with pytest.raises(ValueError, match="1 seeds for 2 latents"):
            per_family.render(latents, embeds, [3])
        if stochastic:
            with pytest.raises(ValueError, match="adds noise between its"):
                per_family.render(latents, embeds)
        else:
            assert torch.equal(per_family.render(latents, embeds), per_family.render(latents, embeds, [3, 4]))


@pytest.mark.parametrize(("algorithm", "noisy"), [("dpmsolver++", False), ("sde-dpmsolver++", True)])
def test_a_solver_of_a_stochastic_equation_counts_as_stochastic(
    algorithm: str, noisy: bool, tiny_pipeline: Callable[[str], Any]
) -> None:
    pipeline = copy.copy(tiny_pipeline("pixart"))
    pipeline.scheduler = type(pipeline.scheduler)(algorithm_type=algorithm)
    backbone = family("pixart").BACKBONE(pipeline, Preset("tiny", 4, 1.0, HEIGHT, WIDTH, "none"), "tiny")
    assert backbone._is_stochastic == noisy


@pytest.mark.parametrize("name", ["stable_diffusion", "pixart", "flux"])
def test_a_size_that_is_no_multiple_of_the_size_step_is_refused(name: str, tiny_pipeline: Callable[[str], Any]) -> None:
    preset = Preset("tiny", 1, 0.0, HEIGHT, WIDTH + 1, "none")
    with pytest.raises(ValueError, match=r"multiples of \d+, got 32 x 65"):
        family(name).BACKBONE(tiny_pipeline(name), preset, name)


def test_explicit_timesteps_of_a_preset_cause_no_warning(
    tiny_pipeline: Callable[[str], Any], caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = tiny_pipeline("stable_diffusion_xl lcm")
    logger = logging.getLogger(type(pipeline.scheduler).__module__)
    logger.setLevel(logging.WARNING)
    logger.addHandler(caplog.handler)
    try:
        pipeline.scheduler.set_timesteps(timesteps=[800])
        assert caplog.records, "the scheduler alone should warn"
        caplog.clear()
        preset = Preset("tiny", 1, 0.0, HEIGHT, WIDTH, "none", timesteps=(800,))
        backbone = family("stable_diffusion_xl").BACKBONE(pipeline, preset, "tiny")
        with torch.no_grad():
            backbone.render(backbone.initial_latents([0]), backbone.encode_prompt(PROMPT))
        assert not caplog.records
    finally:
        logger.removeHandler(caplog.handler)


def test_guidance_without_the_empty_prompts_embeddings_is_refused(tiny_pipeline: Callable[[str], Any]) -> None:
    preset = Preset("tiny", 1, 0.0, HEIGHT, WIDTH, "none")
    backbone = family("stable_diffusion").BACKBONE(tiny_pipeline("stable_diffusion"), preset, "tiny")
    embeds = backbone.encode_prompt(PROMPT)
    backbone.guidance_scale = 5.0
    with pytest.raises(ValueError, match="negative prompt"):
        backbone.render(backbone.initial_latents([0]), embeds)


@pytest.mark.slow
def test_the_number_axis_leads_from_one_number_word_to_another_of_another_length(per_family: Backbone) -> None:
    def shifted(offset: float) -> PromptEmbeds:
        return encode_shifted(
            per_family, PROMPT, None, [NumberShift("cat", 11, 16, number=3, offset=offset, lo=3, hi=16)]
        )

    with torch.no_grad():
        low, high = (per_family.encode_prompt(f"a photo of {word} cats") for word in ("three", "sixteen"))
    for field, value in vars(shifted(13.0)).items():
        wanted = getattr(low if field.startswith("negative") else high, field)
        if wanted is None:
            assert value is None
        else:
            torch.testing.assert_close(value, wanted, msg=field)
    assert torch.equal(shifted(0.0).prompt_embeds, low.prompt_embeds)
    beyond = shifted(20.0)
    with torch.no_grad():
        latents = per_family.initial_latents([3])
        pictures = [per_family.render(latents, embeds, [3]) for embeds in (high, beyond)]
    assert torch.isfinite(pictures[1]).all()
    assert not torch.equal(*pictures)
