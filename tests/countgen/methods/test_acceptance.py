"""The probability of a right count, and the cascade that evaluates no more than its decision needs."""

import math
from dataclasses import replace

import pytest
import torch

import countgen
from countgen.methods import seeds as seeds_module
from countgen.methods.acceptance import HIGHEST, LOWEST, Acceptance, Evidence, Prior
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
    prior = Prior(intercept=2.0, count=-1.5, classes=-0.7)
    acceptance = Acceptance(prior=prior, scales={models.critics[1].name: 4.0}, refined=-0.2)
    evidence = Evidence(intercept=-1.0, below=2.0, above=3.0)
    targets = (Target("apple", 3), Target("cat", 2))
    log_odds = -1 + 2 * (0 - 2) / 2 + 3 * (1 + 0) / 2 + 2 - 1.5 * math.log(5) - 0.7
    for refined in (False, True):
        probability = acceptance.probability(
            evidence, torch.tensor([[1.0, -8.0]]), models.critics, targets, refined=refined
        )
        assert float(probability) == pytest.approx(1 / (1 + math.e ** -(log_odds - 0.2 * refined)))


def test_the_same_margins_say_less_of_more_objects_and_of_two_classes(models):
    acceptance, margins = Acceptance(), torch.full((1, 2), 1.0)
    few, many, two = (
        float(acceptance.probability(acceptance.plain, margins, models.critics, targets))
        for targets in ((Target("cat", 3),), (Target("cat", 14),), (Target("cat", 2), Target("dog", 1)))
    )
    assert max(many, two) < few < 0.9997


def test_it_is_never_more_certain_than_its_number_of_images_allows(models):
    acceptance = Acceptance(highest=math.log(7))
    margins = torch.full((1, 2), 50.0)
    probability = acceptance.probability(acceptance.plain, margins, models.critics, (Target("cat", 1),))
    assert float(probability) == pytest.approx(7 / 8)


def test_the_probability_never_falls_as_a_margin_grows(models):
    acceptance, targets = Acceptance(), (Target("cat", 9),)
    margins = torch.linspace(3 * LOWEST, 3 * HIGHEST, 101, dtype=torch.float64)
    for evidence in (acceptance.first, acceptance.plain, acceptance.views):
        for other in (-50.0, 0.0, 50.0):
            both = torch.stack([margins, torch.full_like(margins, other)], 1)
            assert (acceptance.probability(evidence, both, models.critics, targets).diff() >= -1e-6).all()
    first = acceptance.probability(acceptance.first, margins[:, None], models.critics[:1], targets)
    assert (first.diff() >= -1e-6).all()


@pytest.mark.parametrize("sure", [0.5, 0.98])
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
            probability = problem.acceptance.probability(evidence, margins, critics, problem.targets)
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
