from functools import partial

import pytest
import torch

from countgen.methods.lmn import LatentModifier, LMNSettings
from countgen.methods.problem import Problem
from countgen.methods.refinement import DirectLatents, refine
from countgen.methods.step import Budget
from countgen.prompts import Target

NOISE = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("module", [DirectLatents, LatentModifier])
def test_every_module_starts_at_the_noise_and_leaves_it_alone(module):
    noise = NOISE.clone()
    start = module(noise)
    assert torch.equal(start(), noise)
    start().sum().backward()
    torch.optim.SGD(start.parameters(), lr=1.0).step()
    assert not torch.equal(start(), NOISE)
    assert torch.equal(noise, NOISE)


@pytest.mark.parametrize("original_share", [0, 0.2, 0.9])
def test_the_output_is_the_weighted_mean_of_the_noise_and_the_modified_noise(original_share):
    start = LatentModifier(NOISE, original_share)
    with torch.no_grad():
        start.bias += 1
    # Modified is noise + 1, so the mean has moved by the modified's share.
    torch.testing.assert_close(start(), NOISE + (1 - original_share))


def test_the_network_moves_a_batch_as_it_moves_singles():
    torch.manual_seed(1)
    directions = torch.randn_like(NOISE)

    def moved(rows):
        start = LatentModifier(NOISE[rows])
        optimizer = torch.optim.Adam(start.parameters(), lr=1e-3)
        for _ in range(3):
            optimizer.zero_grad()
            start().backward(directions[rows])
            optimizer.step()
        return start().detach()

    torch.testing.assert_close(moved(slice(0, 2)), torch.cat([moved(slice(0, 1)), moved(slice(1, 2))]))


def test_gradient_reaches_all_three_layers_after_the_first_step():
    start = LatentModifier(NOISE)
    optimizer = torch.optim.SGD(start.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (start() - 1).square().sum().backward()
        optimizer.step()
    assert all(parameter.grad.abs().max() > 0 for parameter in start.parameters())


def network_steps(models, target_count, **changes):
    with torch.no_grad():
        embeds = models.backbone.encode_prompt("a photo of eleven apples")
    settings = LMNSettings(**changes)
    problem = Problem(models.backbone, models.critics, (Target("apple", target_count),), embeds)
    latents = models.backbone.initial_latents([11])
    start = partial(LatentModifier, original_share=settings.original_share)
    return latents, list(refine(problem, latents, [11], Budget(), settings, start))


def test_refine_with_the_network_lowers_the_loss(models):
    _, steps = network_steps(models, 11, num_optimization_steps=5, learning_rate=3e-4)
    assert steps[-1].confirmed or min(step.loss for step in steps[1:]) < steps[0].loss


def test_a_run_takes_the_share_of_the_original_noise_from_its_settings(models):
    def moved(original_share):
        latents, steps = network_steps(models, 15, num_optimization_steps=2, original_share=original_share)
        return (steps[-1].latents - latents[0]).norm()

    assert moved(0.9) < moved(0.0) / 2


@pytest.mark.parametrize("share", [1.0, -0.1, "0.2"])
def test_a_share_outside_its_range_is_refused(share):
    with pytest.raises(ValueError, match="original_share must be at least 0 and below 1"):
        LMNSettings(original_share=share)
