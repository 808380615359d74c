"""The contract of every family on tiny random pipelines: the stock pipeline's image, with gradient."""

from __future__ import annotations

import copy
import logging
from dataclasses import replace

import pytest
import torch

from countgen import backbones
from countgen.backbones import Backbone, Preset, PromptEmbeds
from countgen.backbones.registry import module_of
from countgen.number_slider import NumberShift, encode_shifted
from tests.countgen.backbones.conftest import HEIGHT, PROMPT, WIDTH, build, images_of, stock_images, tiny, tiny_backbone

NEGATIVE = "two dogs, blurry"

# Pipeline, steps, guidance, negative prompt.
CASES: dict[str, tuple[str, int, float, str | None]] = {
    "stable_diffusion, one step": ("stable_diffusion", 1, 0.0, None),
    "stable_diffusion, guided": ("stable_diffusion", 4, 7.5, NEGATIVE),
    "stable_diffusion_xl, one step": ("stable_diffusion_xl", 1, 0.0, None),
    "stable_diffusion_xl, explicit timestep": ("stable_diffusion_xl lcm", 1, 0.0, None),
    "stable_diffusion_xl, noise between steps": ("stable_diffusion_xl", 4, 0.0, None),
    "stable_diffusion_xl, guided": ("stable_diffusion_xl", 4, 5.0, None),
    "stable_diffusion_xl, negative prompt": ("stable_diffusion_xl", 2, 5.0, NEGATIVE),
    "pixart, one step": ("pixart one step", 1, 1.0, None),
    "pixart, several steps": ("pixart", 4, 1.0, None),
    "pixart, size conditions": ("pixart sized", 4, 4.5, NEGATIVE),
    "pixart sigma, guided": ("pixart sigma", 4, 4.5, None),
    "flux, several steps": ("flux", 4, 0.0, None),
    "flux, guided": ("flux guided", 4, 3.5, None),
    "stable_diffusion_3, several steps": ("stable_diffusion_3", 4, 0.0, None),
    "stable_diffusion_3, guided": ("stable_diffusion_3", 4, 7.0, NEGATIVE),
    "sana, two steps": ("sana", 2, 4.5, None),
    "sana, several steps, other guidance": ("sana", 4, 1.0, None),
    "z_image, several steps": ("z_image", 4, 0.0, None),
    "z_image, guided": ("z_image", 4, 0.5, NEGATIVE),
    "flux2, distilled": ("flux2", 4, 4.0, None),
    "flux2, guided": ("flux2 base", 4, 4.0, None),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[Backbone, str | None]:
    """Return a backbone, and the negative prompt."""
    name, steps, guidance, negative = CASES[request.param]
    return tiny_backbone(name, steps, guidance), negative


@pytest.mark.core
def test_render_equals_the_stock_pipeline(case: tuple[Backbone, str | None]) -> None:
    (backbone, negative), seeds = case, [3, 4]
    images = images_of(backbone, seeds, negative)
    if negative is not None:
        assert (images - images_of(backbone, seeds)).abs().max() > 1e-4, "the negative prompt has no effect"
    assert images.shape == (2, 3, HEIGHT, WIDTH)
    assert (images[0] - images[1]).abs().mean() > 1e-3, "the seed has no effect"
    torch.testing.assert_close(images, stock_images(backbone.pipeline, backbone, seeds, negative), atol=1e-4, rtol=0)


@pytest.mark.core
def test_gradient_reaches_latents_and_prompt_embeddings_and_no_weight(case: tuple[Backbone, str | None]) -> None:
    backbone, negative = case
    embeds = backbone.encode_prompt(PROMPT, negative)
    prompt_embeds = embeds.prompt_embeds.detach().requires_grad_(True)
    latents = backbone.initial_latents([5]).requires_grad_(True)

    images = backbone.render(latents, replace(embeds, prompt_embeds=prompt_embeds), [5])
    (images * torch.linspace(0, 1, WIDTH)).sum().backward()

    for tensor in (latents, prompt_embeds):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()
        assert tensor.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in backbone.denoiser.parameters())


@pytest.mark.core
def test_saturated_pixels_pass_a_gradient() -> None:
    backbone = tiny_backbone("stable_diffusion")
    latents = (1000 * backbone.initial_latents([5])).requires_grad_(True)
    image = backbone.decode(latents)
    saturated = (image == 0) | (image == 1)
    assert saturated.any()
    assert image.amin() >= 0
    assert image.amax() <= 1
    (gradient,) = torch.autograd.grad(image[saturated].sum(), latents)
    assert gradient.abs().max() > 0


def test_every_family_has_a_tiny_pipeline_and_presets() -> None:
    tested = {pipeline.split()[0] for pipeline, *_ in CASES.values()}
    assert tested | {"endpoint", "any_pipeline"} == set(backbones.families())
    assert all(preset.licence for name in backbones.families() for preset in module_of(name).PRESETS.values())


def test_a_batch_equals_images_rendered_one_by_one() -> None:
    noisy = tiny_backbone("stable_diffusion_xl", 4, 5.0)  # it adds noise between its steps
    alone = torch.cat([images_of(noisy, [seed]) for seed in (6, 7)])
    torch.testing.assert_close(images_of(noisy, [6, 7]), alone, atol=1e-4, rtol=0)


@pytest.mark.core
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_small_gradient_survives_half_precision_and_one_of_zero_stays_zero(dtype: torch.dtype) -> None:
    # The gradient of a count loss is this small; float16 without scaling would round it to zero.
    upstream = torch.stack([torch.linspace(0, 1e-7, WIDTH), torch.zeros(WIDTH)])[:, None, None]
    gradients = []
    for pipeline in (build("stable_diffusion_xl"), build("stable_diffusion_xl").to(dtype)):
        backbone = tiny_backbone("stable_diffusion_xl", 4, 5.0, pipeline)
        latents = backbone.initial_latents([5, 6]).requires_grad_(True)
        images = backbone.render(latents, backbone.encode_prompt(PROMPT), [5, 6])
        assert images.dtype == torch.float32
        (gradient,) = torch.autograd.grad((images * upstream).sum(), latents)
        assert not gradient[1].any()
        gradients.append(gradient[0].double().flatten())
    # A zero, an overflow or another sign would be far off; how the processor rounds eight bits is not.
    assert torch.cosine_similarity(*gradients, 0) > 0.9
    assert 0.7 < float(gradients[1].norm() / gradients[0].norm()) < 1.4


SDE = {"algorithm_type": "sde-dpmsolver++"}


@pytest.mark.parametrize(("name", "options"), [("stable_diffusion_xl", {}), ("sana", {}), ("pixart", SDE)])
def test_samplers_that_add_noise_require_seeds(name: str, options: dict[str, str]) -> None:
    pipeline = copy.copy(tiny(name))
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, **options)
    backbone = tiny_backbone(name, 4, pipeline=pipeline)
    with pytest.raises(ValueError, match="adds noise between its"):
        backbone.render(backbone.initial_latents([3]), backbone.encode_prompt(PROMPT))


def test_impossible_requests_are_errors() -> None:
    backbone = tiny_backbone("stable_diffusion")
    embeds, latents = backbone.encode_prompt(PROMPT), backbone.initial_latents([3, 4])
    with pytest.raises(ValueError, match="1 seeds for 2 latents"):
        backbone.render(latents, embeds, [3])
    backbone.guidance_scale = 5.0
    with pytest.raises(ValueError, match="set guidance_scale before encoding"):
        backbone.render(latents, embeds)
    with pytest.raises(ValueError, match=r"multiples of \d+, got 32 x 65"):
        module_of("flux").BACKBONE(tiny("flux"), Preset("tiny", 1, 0.0, HEIGHT, WIDTH + 1, "none"), "flux")


@pytest.mark.parametrize(
    ("name", "guidance"), [("stable_diffusion", 0.0), ("flux", 3.5), ("sana", 4.5), ("z_image", 0.0), ("flux2", 4.0)]
)
def test_a_negative_prompt_without_guidance_is_an_error(name: str, guidance: float) -> None:
    with pytest.raises(ValueError, match="a negative prompt needs guidance"):
        tiny_backbone(name, 2, guidance).encode_prompt(PROMPT, NEGATIVE)


def test_explicit_timesteps_of_a_preset_cause_no_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("diffusers"), "propagate", True)
    pipeline = tiny("stable_diffusion_xl lcm")
    logging.getLogger(type(pipeline.scheduler).__module__).setLevel(logging.WARNING)
    pipeline.scheduler.set_timesteps(timesteps=[800])
    assert caplog.records, "the scheduler alone should warn"
    caplog.clear()
    images_of(tiny_backbone("stable_diffusion_xl lcm"), [0])
    assert not caplog.records


@pytest.mark.parametrize("name", ["stable_diffusion_xl", "pixart", "z_image"])
def test_the_number_axis_leads_from_one_number_word_to_another_of_another_length(name: str) -> None:
    backbone = tiny_backbone(name, 2, 5.0)

    def shifted(offset: float) -> PromptEmbeds:
        shift = NumberShift("cat", 11, 16, number=3, offset=offset, lo=3, hi=16)
        return encode_shifted(backbone, PROMPT, None, [shift])

    with torch.no_grad():
        low, high = (backbone.encode_prompt(f"a photo of {word} cats") for word in ("three", "sixteen"))
    for field, value in vars(shifted(13.0)).items():
        wanted = getattr(low if field.startswith("negative") else high, field)
        if wanted is None:
            assert value is None
        else:
            torch.testing.assert_close(value, wanted, msg=field)
    assert torch.equal(shifted(0.0).prompt_embeds, low.prompt_embeds)
    assert not torch.equal(shifted(20.0).prompt_embeds, high.prompt_embeds)
