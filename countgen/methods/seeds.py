"""Evaluate batches of seeds without gradient, each as far as the decision about it needs."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from countgen.backbones.low_memory import retry_with_low_memory
from countgen.critics import Critic, Evaluation
from countgen.errors import NonFiniteLossError
from countgen.methods.acceptance import Evidence
from countgen.methods.evaluation import Batch
from countgen.methods.objective import CONFIRMATION_VIEWS, PLAIN_VIEW, Objective, View, distinct_views
from countgen.methods.problem import Problem
from countgen.methods.settings import Settings, setting
from countgen.methods.step import SEARCH, Budget, Step

SEED_STRIDE = 1_000_003
"""Candidates of seed s are s, s + stride, s + 2 stride, ...: neighbouring seeds never share one."""

WORTH_MORE = 0.7
"""An image is evaluated further while its P(right) is at least this share of what is asked for.

On 2584 plain images of the embedded model this lost none of those that all evidence confirms at 0.98.
"""


@dataclass(frozen=True)
class SearchSettings(Settings):
    """Settings of the search over seeds."""

    batch_size: int = setting(
        0, "seeds evaluated at once, in the first batch half as many; 0 for 8, on a CPU for 1", at_least=0
    )


def searched(problem: Problem, seed: int, budget: Budget, settings: SearchSettings) -> Iterator[list[Step]]:
    """Evaluate batches of seeds, and yield the steps of each, until the budget is spent.

    Raises:
        DoesNotFitError, NonFiniteLossError, StopRequestedError: as `evaluate_seeds`.
    """
    batch_size = settings.batch_size or problem.backbone.batch_size
    size = max(1, batch_size // 2)
    while budget.left:
        size = min(size, budget.evaluations_left)
        yield evaluate_seeds(problem, [seed + k * SEED_STRIDE for k in range(size)], budget)
        seed += size * SEED_STRIDE
        size = batch_size


def best_of(steps: Sequence[Step]) -> list[Step]:
    """Return the confirmed steps of a batch in the order of their seeds; if there are none, the best one; no drafts."""
    shown = [step for step in steps if not step.draft]
    return [step for step in shown if step.confirmed] or [max(shown, key=lambda step: step.rank)]


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
    """Evaluate each seed once: by the first critic, and by more critics and views while it may be confirmed.

    Where the backbone has a tiny decoder, the first critic evaluates drafts of a batch, and the VAE decodes those that
    may be confirmed, and always the most probable one. The others remain drafts: methods may start from their latents
    but do not yield them.

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
    images, evaluation, probability, decoded = retry_with_low_memory(
        problem.backbone, lambda: _evaluated(problem, latents, seeds, budget), problem.graphs.release
    )
    budget.charge(len(seeds))
    if not torch.isfinite(evaluation.loss).any():
        raise NonFiniteLossError(
            f"no loss of the batch is finite at step {budget.steps - 1}; use float32 or another VAE"
        )
    steps = Batch(seeds, latents, images, evaluation).steps(problem, probability, budget, SEARCH)
    return [replace(step, draft=not full) for step, full in zip(steps, decoded.tolist(), strict=True)]


def _evaluated(
    problem: Problem, latents: Tensor, seeds: Sequence[int], budget: Budget
) -> tuple[Tensor, Evaluation, Tensor, Tensor]:
    """Return images, their evaluation by the first critic with the least margin of all evidence, and P(right) (B,).

    The last tensor, bool (B,), tells images that the VAE decoded from drafts.
    """
    backbone, acceptance = problem.backbone, problem.acceptance
    # A batch of one is decoded by the VAE anyway.
    draft = backbone.tiny_vae is not None and len(seeds) > 1
    images, samples = backbone.render_in_parts(latents, problem.embeds, seeds, draft=draft, check=budget.check_stop)
    (evidence, (objective,)), *further = stages(problem)
    budget.check_stop()
    evaluation, critics = objective.evaluate(images), objective.columns
    probability = acceptance.probability(evidence, evaluation.margin, critics, problem.targets)
    decoded = torch.ones_like(probability, dtype=torch.bool)
    if draft:
        decoded = probability >= WORTH_MORE * problem.sure
        decoded[probability.argmax()] = True
        for row in decoded.nonzero()[:, 0].tolist():
            budget.check_stop()
            images[row] = backbone.decode(samples[row][None])[0]
        budget.check_stop()
        exact = objective.evaluate(images[decoded])
        for field in fields(Evaluation):
            getattr(evaluation, field.name)[decoded] = getattr(exact, field.name)
        probability[decoded] = acceptance.probability(evidence, exact.margin, critics, problem.targets)
    rows = decoded.nonzero()[:, 0]
    margins, least = evaluation.margin[rows], evaluation.margin.amin(1)
    for evidence, objectives in further:
        undecided = (probability[rows] < problem.sure) & (probability[rows] >= WORTH_MORE * problem.sure)
        rows, margins = rows[undecided], margins[undecided]
        if not len(rows):
            break
        for objective in objectives:
            budget.check_stop()
            margins = torch.cat([margins, objective.evaluate(images[rows]).margin], 1)
            critics += objective.columns
        least[rows] = margins.amin(1)
        probability[rows] = acceptance.probability(evidence, margins, critics, problem.targets)
    loss = evaluation.loss * len(problem.critics)  # comparable with that of all critics
    return images, replace(evaluation, loss=loss, margin=least), probability, decoded


def stages(problem: Problem) -> list[tuple[Evidence, list[Objective]]]:
    """Return the stages of the evaluation, cheapest first: one critic, the other critics, the other views of all.

    Returns:
        For each stage the evidence that is complete after it, and the objectives that it adds.
    """
    acceptance, (first, *others) = problem.acceptance, problem.critics

    def objective(critic: Critic, views: Sequence[View]) -> Objective:
        return Objective((critic,), problem.targets, tuple(views))

    other_views = {critic: distinct_views(CONFIRMATION_VIEWS, critic)[1:] for critic in problem.critics}
    added = [
        (acceptance.first, [objective(first, PLAIN_VIEW)]),
        (acceptance.plain, [objective(critic, PLAIN_VIEW) for critic in others]),
        (acceptance.views, [objective(critic, views) for critic, views in other_views.items() if views]),
    ]
    return [(evidence, objectives) for evidence, objectives in added if objectives]
