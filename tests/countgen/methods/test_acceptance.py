"""The probability of a right count, and the cascade that evaluates no more than its decision needs."""

import math
from dataclasses import replace

import pytest
import torch

import countgen
from countgen.methods import seeds as seeds_module
from countgen.methods.acceptance import HIGHEST, LOWEST, Acceptance, Evidence
from countgen.methods.objective import CONFIRMATION_VIEWS, Objective
from countgen.methods.problem import Problem
from countgen.methods.search import search
from countgen.methods.seeds import WORTH_MORE, SearchSettings, evaluate_seeds, stages
from countgen.methods.step import Budget
from countgen.prompts import Target


@pytest.fixture(scope="module")
def problem(models):
    with torch.no_grad():
        embeds = models.backbone.encode_prompt("a photo of three apples")
    return Problem(models.backbone, models.critics, (Target("apple", 3),), embeds)


def test_the_probability_has_its_closed_form(models):
    acceptance = Acceptance(scales={models.critics[1].name: 4.0})
    evidence = Evidence(intercept=-1.0, below=2.0, above=3.0)
    probability = acceptance.probability(evidence, torch.tensor([[1.0, -8.0]]), models.critics)
    assert float(probability) == pytest.approx(1 / (1 + math.e ** -(-1 + 2 * (0 - 2) / 2 + 3 * (1 + 0) / 2)))


def test_a_count_that_no_view_is_close_to_changing_is_right_though_most_margins_are_small(models):
    margins, critics = torch.full((3, 6), 0.2), [critic for critic in models.critics for _ in range(3)]
    margins[1:] = 1.2
    margins[2, 4] = -0.2
    small, safe, wrong = Acceptance().probability(Acceptance().views, margins, critics).tolist()
    assert max(small, wrong) < 0.9 < 0.98 < safe


def test_the_probability_never_falls_as_a_margin_grows(models):
    acceptance = Acceptance()
    margins = torch.linspace(3 * LOWEST, 3 * HIGHEST, 101, dtype=torch.float64)
    for evidence in (acceptance.first, acceptance.plain, acceptance.views):
        for other in (-50.0, 0.0, 50.0):
            both = torch.stack([margins, torch.full_like(margins, other)], 1)
            assert (acceptance.probability(evidence, both, models.critics).diff() >= -1e-6).all()
    assert (acceptance.probability(acceptance.first, margins[:, None], models.critics[:1]).diff() >= -1e-6).all()


def test_images_that_gradients_moved_are_less_certain(models):
    acceptance, margins = Acceptance(), torch.ones(1, 1)
    plain, refined = (
        acceptance.probability(acceptance.views, margins, models.critics[:1], refined=refined)
        for refined in (False, True)
    )
    assert refined < plain


@pytest.mark.parametrize("sure", [0.5, 0.9, 0.98])
def test_the_cascade_accepts_what_it_accepts_after_evaluating_everything(problem, sure):
    steps = evaluate_seeds(replace(problem, sure=sure), list(range(12)), Budget())
    images = torch.stack([step.image for step in steps])
    margins, critics, goes_on, accepted = (
        torch.empty(12, 0),
        (),
        torch.ones(12, dtype=bool),
        torch.zeros(12, dtype=bool),
    )
    with torch.no_grad():
        for evidence, objectives in stages(problem):
            margins = torch.cat([margins, *(objective.evaluate(images).margin for objective in objectives)], 1)
            critics += tuple(critic for objective in objectives for critic in objective.columns)
            probability = problem.acceptance.probability(evidence, margins, critics)
            accepted |= goes_on & (probability >= sure)
            goes_on &= probability >= WORTH_MORE * sure
        everything = Objective(problem.critics, problem.targets, CONFIRMATION_VIEWS).evaluate(images).margin
    torch.testing.assert_close(margins.sort(1).values, everything.sort(1).values, rtol=1e-3, atol=1e-3)
    assert [step.confirmed for step in steps] == accepted.tolist()
    assert any(step.confirmed for step in steps)
    assert not all(step.confirmed for step in steps)


def test_a_wrong_image_is_seen_by_the_first_critic_alone(problem, monkeypatch):
    evaluated = []
    intact = Objective.evaluate

    def counted(objective, images):
        evaluated.append((objective.critics, len(images)))
        return intact(objective, images)

    monkeypatch.setattr(seeds_module.Objective, "evaluate", counted)
    unreachable = replace(problem, targets=(Target("apple", 9),))
    evaluate_seeds(unreachable, [0, 1], Budget())
    assert evaluated == [(problem.critics[:1], 2)]


def test_a_confirmed_baseline_is_not_replaced(models, problem):
    """Of the confirmed seeds of a batch the first one is accepted, which is the baseline if it is confirmed."""
    seeds = [step.seed for step in evaluate_seeds(problem, list(range(12)), Budget()) if step.confirmed]
    for seed in seeds[:3]:
        for batch_size in (1, 8):
            steps = list(search(problem, seed, Budget(), SearchSettings(batch_size=batch_size)))
            assert [step.seed for step in steps] == [seed]
        result = countgen.generate("a photo of three apples", models, seed=seed)
        assert result.before is result.image


def test_the_result_and_the_recipe_hold_the_probability(models):
    result = countgen.generate("a photo of three apples", models, seed=0, sure=0.9)
    assert result.confirmed == (result.probability >= 0.9)
    assert result.recipe["sure"] == 0.9
    assert result.recipe["probability"] == pytest.approx(result.probability, abs=1e-4)
