"""Evaluate batches of seeds without gradient, each as far as the decision about it needs."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from countgen.backbones.low_memory import retry_with_low_memory
from countgen.critics import Critic, Evaluation
from countgen.errors import NonFiniteLossError
from countgen.methods.acceptance import Acceptance, Evidence
from countgen.methods.objective import CONFIRMATION_VIEWS, PLAIN_VIEW, Objective, distinct_views
from countgen.methods.problem import Problem
from countgen.methods.settings import Settings, setting
from countgen.methods.step import Budget, Step, steps_of

SEED_STRIDE = 1_000_003
"""Candidates of seed s are s, s + stride, s + 2 stride, ...: neighbouring seeds never share one."""


@dataclass(frozen=True)
class SearchSettings(Settings):
    """Settings of the search over seeds."""

    batch_size: int = setting(8, "seeds evaluated at once; a CPU takes one after the other", at_least=1)
    first_batch_size: int = setting(
        4, "seeds of the first batch; small, because low counts are often right in it", at_least=1
    )


def searched(problem: Problem, seed: int, budget: Budget, settings: SearchSettings) -> Iterator[list[Step]]:
    """Evaluate batches of seeds, and yield the steps of each, until the budget is spent.

    Raises:
        DoesNotFitError, NonFiniteLossError, StopRequestedError: as `evaluate_seeds`.
    """
    on_cpu = problem.backbone.device.type == "cpu"  # where a batch takes as long as its images one by one
    size = 1 if on_cpu else settings.first_batch_size
    while budget.left:
        size = min(size, budget.evaluations_left)
        yield evaluate_seeds(problem, [seed + k * SEED_STRIDE for k in range(size)], budget)
        seed += size * SEED_STRIDE
        size = 1 if on_cpu else settings.batch_size


def best_of(steps: Sequence[Step]) -> list[Step]:
    """Return the confirmed steps of a batch in the order of their seeds; if there are none, the best one."""
    return [step for step in steps if step.confirmed] or [max(steps, key=lambda step: step.rank)]


def until_accepted(problem: Problem, steps: Iterable[Step]) -> Generator[Step, None, bool]:
    """Yield steps up to the first one that is accepted, and return whether one is."""
    for step in steps:
        accepted = problem.accept(step)
        yield step
        if accepted:
            return True
    return False


@torch.no_grad()
def evaluate_seeds(problem: Problem, seeds: Sequence[int], budget: Budget) -> list[Step]:
    """Evaluate each seed once: by the first critic, and by more critics and views while it can still be confirmed.

    Args:
        problem: to solve.
        seeds: at least one.
        budget: charged one evaluation for each seed.

    Raises:
        DoesNotFitError: the device's memory is too small for a single image.
        NonFiniteLossError: no loss of the batch is finite; the message names the step.
        StopRequestedError: as `Budget.check_stop`.
    """
    latents = problem.backbone.initial_latents(seeds)
    images, evaluation, probability = retry_with_low_memory(
        problem.backbone, lambda: _evaluated(problem, latents, seeds, budget), problem.graphs.release
    )
    index = budget.charge(len(seeds))
    if not torch.isfinite(evaluation.loss).any():
        raise NonFiniteLossError(f"no loss of the batch is finite at step {index}; use float32 or another VAE")
    return steps_of(
        seeds,
        images,
        latents,
        evaluation,
        budget,
        index=index,
        phase="search",
        probability=probability,
        sure=problem.sure,
    )


def _evaluated(
    problem: Problem, latents: Tensor, seeds: Sequence[int], budget: Budget
) -> tuple[Tensor, Evaluation, Tensor]:
    """Return images, their evaluation by the first critic with the least margin of all evidence, and P(right) (B,)."""
    images = problem.backbone.render_in_parts(latents, problem.embeds, seeds, check=budget.check_stop)
    first, *further = stages(problem)
    budget.check_stop()
    evaluation = first.objectives[0].evaluate(images)
    margins, probability = evaluation.margin, first.probability(evaluation.margin)
    least = margins.amin(1)
    rows = torch.arange(len(images), device=images.device)
    for number, stage in enumerate(further):
        reachable = torch.stack([later.probability(margins) for later in further[number:]]).amax(0)
        undecided = (probability[rows] < problem.sure) & (reachable >= problem.sure)
        rows, margins = rows[undecided], margins[undecided]
        if not len(rows):
            break
        budget.check_stop()
        added = [objective.evaluate(images[rows]).margin for objective in stage.objectives]
        margins = torch.cat([margins, *added], 1)
        least[rows], probability[rows] = margins.amin(1), stage.probability(margins)
    loss = evaluation.loss * len(problem.critics)  # comparable with that of all critics
    return images, replace(evaluation, loss=loss, margin=least), probability


@dataclass(frozen=True)
class Stage:
    """A stage of the cascade.

    Attributes:
        acceptance, evidence: that give the probability after it.
        objectives: that it evaluates.
        critics: of all margins up to it, this stage's included.
    """

    acceptance: Acceptance
    evidence: Evidence
    objectives: tuple[Objective, ...]
    critics: tuple[Critic, ...]

    def probability(self, margins: Tensor) -> Tensor:
        """Return P(right) (B,) after this stage; its upper bound for the margins of an earlier one."""
        return self.acceptance.probability(self.evidence, margins, self.critics)


def stages(problem: Problem) -> list[Stage]:
    """Return the stages of the cascade, cheapest first: one critic, the other critics, the other views of all."""
    acceptance, (first, *others) = problem.acceptance, problem.critics
    other_views = [(critic, distinct_views(CONFIRMATION_VIEWS, critic)[1:]) for critic in problem.critics]
    result: list[Stage] = []
    critics: tuple[Critic, ...] = ()
    for evidence, evaluated in (
        (acceptance.first, [(first, PLAIN_VIEW)]),
        (acceptance.plain, [(critic, PLAIN_VIEW) for critic in others]),
        (acceptance.views, [(critic, views) for critic, views in other_views if views]),
    ):
        objectives = tuple(Objective((critic,), problem.targets, tuple(views)) for critic, views in evaluated)
        critics += tuple(critic for objective in objectives for critic in objective.columns)
        if objectives:
            result.append(Stage(acceptance, evidence, objectives, critics))
    return result
