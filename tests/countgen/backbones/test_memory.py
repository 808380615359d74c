"""Low memory and drafts: the same images at another cost."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderTiny
from torch.autograd.graph import saved_tensors_hooks

import countgen
from countgen import backbones
from countgen.backbones import Backbone
from countgen.methods.noise import NoiseSettings, noise
from countgen.methods.problem import Problem
from countgen.methods.refinement import refine
from countgen.methods.step import Budget
from countgen.models import no_larger
from countgen.prompts import Target

PROMPT = "a photo of seven apples"
TARGETS = (Target("apple", 7),)


def test_low_memory_gives_the_same_images_and_gradients() -> None:
    results = []
    for memory in ("fast", "low"):
        # In double precision, so that no processor's rounding decides.
        backbone = backbones.load("miniature", memory=memory, dtype=torch.float64)
        with torch.no_grad():
            embeds = backbone.encode_prompt(PROMPT)
        latents = backbone.initial_latents([3, 4]).requires_grad_(True)
        images = backbone.render(latents, embeds, [3, 4])
        (images * torch.linspace(0, 1, images.shape[-1])).sum().backward()
        results.append((images.detach(), latents.grad))
        assert backbone.memory == memory
    torch.testing.assert_close(results[1], results[0], atol=1e-5, rtol=1e-5)


def test_low_memory_keeps_fewer_activations() -> None:
    backbone = backbones.load("miniature")
    with torch.no_grad():
        embeds = backbone.encode_prompt(PROMPT)
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[backbone.memory] = kept.get(backbone.memory, 0) + tensor.numel()
        return tensor

    latents = backbone.initial_latents([0]).requires_grad_(True)
    for _ in range(2):
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            backbone.render(latents, embeds)
        backbone.save_memory()
    assert kept["low"] < kept["fast"] / 4


def test_low_memory_runs_without_a_cuda_graph() -> None:
    backbone = backbones.load("miniature", memory="low")
    assert backbone.cuda_graph_obstacle() is not None


@pytest.mark.parametrize(("side", "expected"), [(64, 64), (128, 128), (512, 128)])
def test_low_memory_limits_the_critics_image_size_to_the_images(
    side: int, expected: int, models: countgen.Models
) -> None:
    assert no_larger(models.critics[0], side).settings.image_size == expected


@pytest.fixture
def drafting() -> Backbone:
    """Return the miniature with an untrained tiny decoder, whose drafts show no objects."""
    backbone = backbones.load("miniature")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tiny_vae = AutoencoderTiny(
            encoder_block_out_channels=(8, 8, 8), decoder_block_out_channels=(8, 8, 8),
            num_encoder_blocks=(1, 1, 1), num_decoder_blocks=(1, 1, 1),
        )  # fmt: skip
    backbone.tiny_vae = tiny_vae.eval().requires_grad_(False)
    return backbone


def test_gradients_use_the_draft_and_steps_show_images_of_the_vae(drafting: Backbone, models: countgen.Models) -> None:
    with torch.no_grad():
        embeds = drafting.encode_prompt(PROMPT)
    latents = drafting.initial_latents([9])  # counts wrong until the last of four steps
    settings = NoiseSettings(num_optimization_steps=4)
    budget = Budget()
    problem = Problem(drafting, models.critics, TARGETS, embeds)
    steps = list(refine(problem, latents, [9], budget, settings))

    assert (steps[0].index, steps[-1].index) == (0, 3)
    # Four evaluations of drafts, three of them with gradient, and the images that the VAE decoded.
    assert budget.evaluations == 4 + 2 * 3 + len(steps)
    for step in steps:
        with torch.no_grad():
            rendered = drafting.render(step.latents[None], embeds)[0]
            drafted = drafting.render(step.latents[None], embeds, draft=True)[0]
        torch.testing.assert_close(step.image, rendered)
        assert not torch.allclose(step.image, drafted, atol=0.01)
        assert step.counts == tuple(models.critics[0].counts(rendered[None], ["apple"])[0].tolist())
    assert not torch.equal(steps[-1].latents, latents[0])


@pytest.mark.parametrize("limit", [1, 8])
def test_evaluations_with_drafts_stay_within_the_budget(
    limit: int, drafting: Backbone, models: countgen.Models
) -> None:
    with torch.no_grad():
        embeds = drafting.encode_prompt(PROMPT)
    budget = Budget(max_evaluations=limit)
    problem = Problem(drafting, models.critics, (Target("apple", 40),), embeds)
    steps = list(noise(problem, 3, budget, NoiseSettings()))
    assert steps[-1].evaluations == budget.evaluations == limit
