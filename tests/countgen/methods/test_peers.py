"""The peers do what their sources do: no confirmation, no view but the plain one, one seed for ReNO."""

import pytest

import countgen
from countgen.methods.image_select import ImageSelectSettings
from countgen.methods.objective import PLAIN_VIEW, Objective
from countgen.methods.reno import RenoSettings
from countgen.methods.seeds import SEED_STRIDE

PROMPT = "a photo of seven apples"


def plain_counts(models, seed):
    (step,) = countgen.Run(PROMPT, models, method="plain", seed=seed)
    return step.counts


def test_best_of_n_ends_at_the_first_seed_that_the_first_critic_counts_right(models):
    steps = list(countgen.Run(PROMPT, models, method="best_of_n", seed=3))
    assert [step.seed for step in steps] == [3 + k * SEED_STRIDE for k in range(len(steps))]
    assert [step.counts == (7,) for step in steps] == [False] * (len(steps) - 1) + [True]
    assert [plain_counts(models, step.seed) for step in steps] == [step.counts for step in steps]


def test_image_select_evaluates_all_seeds_and_keeps_the_lowest_loss(models):
    run = countgen.Run(PROMPT, models, method="image_select", seed=3, settings=ImageSelectSettings(num_seeds=4))
    result = run.finish()
    assert result.evaluations == 4
    images = models.backbone.render(
        models.backbone.initial_latents([3 + k * SEED_STRIDE for k in range(4)]), run._embeds
    )
    losses = Objective(models.critics, run.targets, PLAIN_VIEW, "d2d").evaluate(images).loss
    assert result.recipe["candidate_seed"] == 3 + int(losses.argmin()) * SEED_STRIDE


def test_reno_has_its_published_settings_and_stays_on_one_seed(models):
    settings = RenoSettings()
    assert (settings.learning_rate, settings.max_grad_norm, settings.prior_weight) == (5.0, 0.1, 0.01)
    assert (settings.optimizer, settings.num_optimization_steps) == ("sgd", 50)
    steps = list(countgen.Run("a photo of fifteen apples", models, method="reno", seed=1, max_evaluations=8))
    assert [(step.seed, step.evaluations) for step in steps] == [(1, 1), (1, 4), (1, 7)]
    moved = float((steps[1].latents - steps[0].latents).norm())
    # The first step of SGD with Nesterov momentum is 1.9 times the rate times a gradient of the clipped norm.
    assert moved == pytest.approx(5.0 * 1.9 * 0.1, rel=1e-3)
