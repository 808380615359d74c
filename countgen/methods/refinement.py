"""Gradient descent on the initial noise of a batch, which the methods noise, lmn, auto and edit share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from countgen.backbones.low_memory import retry_with_low_memory
from countgen.critics import losses
from countgen.critics.losses import CountLoss
from countgen.errors import NonFiniteLossError
from countgen.methods.evaluation import Batch
from countgen.methods.forward_backward import ForwardBackward
from countgen.methods.objective import CONFIRMATION_VIEWS, View
from countgen.methods.problem import Problem
from countgen.methods.seeds import SEED_STRIDE, until_accepted
from countgen.methods.settings import Settings, setting
from countgen.methods.step import COST_WITH_GRADIENT, Budget, Step

OPTIMIZERS = {
    "adam": lambda parameters, lr: torch.optim.Adam(parameters, lr=lr),
    "sgd": lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.9, nesterov=True),
}

Start = Callable[[Tensor], nn.Module]
"""Function from noise, float32 (B, C, h, w), to the module whose weights are optimised and that returns latents."""

Transform = Callable[[Tensor, Tensor], Tensor]
"""Function from the latents' gradient (B, C, h, w) and their images (B, 3, H, W) to the gradient of the step."""


@dataclass(frozen=True)
class RefinementSettings(Settings):
    """Settings of the descent. The defaults were chosen on tuning seeds, see docs/results.md."""

    num_optimization_steps: int = setting(12, "gradient steps from one start; then the next seed follows", at_least=1)
    learning_rate: float = setting(0.08, "of the optimizer, on latents of unit variance", above=0)
    optimizer: str = setting("adam", "sgd has Nesterov momentum 0.9, as in ReNO", choices=tuple(OPTIMIZERS))
    loss: str | CountLoss = setting("margin", "the count loss", choices=losses.available(), or_function=True)
    prior_weight: float = setting(0.01, "of the prior that keeps the norm of the latents typical of noise", at_least=0)
    prior_power: float = setting(1.0, "exponent of the prior's density, 10 in D2D", at_least=0)
    max_grad_norm: float = setting(10.0, "each latent's gradient is scaled down to this norm", above=0)
    views: tuple[View, ...] = field(default=CONFIRMATION_VIEWS)


class DirectLatents(nn.Module):
    """Latents that are the weights themselves.

    Args:
        noise: float32 (B, C, h, w), the start.
    """

    def __init__(self, noise: Tensor) -> None:
        super().__init__()
        self.latents = nn.Parameter(noise.detach().clone())

    def forward(self) -> Tensor:
        """Return the latents (B, C, h, w)."""
        return self.latents


def latent_prior(latents: Tensor) -> Tensor:
    """Negative log-density of the norm of a standard normal vector, up to a constant.

    Computed in float32: for a 4x64x64 latent the log term is 16383 * ln(128) = 79 500, above float16's
    65 504.

    Args:
        latents: (B, C, H, W), any float dtype.

    Returns:
        float32 (B,); smallest where ||latents|| = sqrt(dim - 1).

    Source: Eyring et al. 2024 (ReNO).
    """
    flat = latents.float().flatten(1)
    squared = flat.square().sum(1)
    return squared / 2 - (flat.shape[1] - 1) * squared.log() / 2


def refine_seeds(
    problem: Problem, seed: int, budget: Budget, settings: RefinementSettings, start: Start = DirectLatents
) -> Iterator[Step]:
    """Refine one seed after the other until a candidate is accepted or the budget is spent.

    Raises:
        NonFiniteLossError: the loss is not finite; the message names the step.
    """
    while budget.left:
        latents = problem.backbone.initial_latents([seed])
        if (yield from until_accepted(problem, refine(problem, latents, [seed], budget, settings, start))):
            return
        seed += SEED_STRIDE


def refine(
    problem: Problem,
    latents: Tensor,
    seeds: Sequence[int],
    budget: Budget,
    settings: RefinementSettings,
    start: Start = DirectLatents,
    transform: Transform | None = None,
) -> Iterator[Step]:
    """Move a batch of latents down the gradient, until one of them is confirmed or the steps or budget are used up.

    Args:
        problem: to solve.
        latents: float (B, C, h, w); not modified.
        seeds: those of the latents.
        budget: charged for every evaluation.
        settings: of the descent.
        start: returns the module whose weights are optimised.
        transform: applied to the gradient before it is clipped; none by default.

    Yields:
        The best `Step` of the batch, once per gradient step. Where the backbone has a tiny decoder, gradients pass
        through it, and the VAE decodes the image of every step that is yielded: those that rank higher than all
        before, and the last.
    """
    # A draft and its image are two evaluations; with one left, the VAE itself decodes.
    draft = problem.backbone.tiny_vae is not None and budget.evaluations_left > len(seeds)
    objective = problem.objective(settings.views, settings.loss)
    passes = ForwardBackward(problem.backbone, problem.embeds, seeds, objective, problem.graphs, draft=draft)

    def best_of(batch: Batch) -> Step:
        return max(batch.steps_by(problem, objective, budget, "refine"), key=lambda step: step.rank)

    highest = -math.inf
    for best, last in _descend(start(latents.detach().float()), passes, seeds, budget, settings, best_of, transform):
        if not draft:
            yield best
        elif best.rank > highest or last:
            highest = max(highest, best.rank)
            images = _decoded_by_vae(best, problem, budget)
            with torch.no_grad():
                evaluation = objective.evaluate(images)
            decoded = best_of(Batch([best.seed], best.latents[None], images, evaluation))
            yield decoded
            if decoded.confirmed:
                return


def _descend(
    module: nn.Module,
    passes: ForwardBackward,
    seeds: Sequence[int],
    budget: Budget,
    settings: RefinementSettings,
    best_of: Callable[[Batch], Step],
    transform: Transform | None,
) -> Iterator[tuple[Step, bool]]:
    """Yield the best candidate of the batch at each gradient step, and whether it is the last one."""
    optimizer = OPTIMIZERS[settings.optimizer](module.parameters(), settings.learning_rate)
    # A gradient needs the evaluation after it; a draft's image costs one more.
    next_cost = COST_WITH_GRADIENT * len(seeds) + 2 * passes.draft
    for left in reversed(range(settings.num_optimization_steps)):
        with torch.enable_grad():  # the caller may iterate under no_grad
            moved = module()
        latents = moved.detach().requires_grad_(True)
        images, evaluation = passes.forward(latents, budget.check_stop)
        budget.charge(len(seeds))
        if not torch.isfinite(evaluation.loss).all():
            reason = f"the loss is not finite at step {budget.steps - 1}; lower learning_rate or use float32"
            raise NonFiniteLossError(reason)
        best = best_of(Batch(seeds, latents, images, evaluation))
        last = best.confirmed or left == 0 or budget.evaluations_left < next_cost or not budget.left
        yield best, last
        if last or not budget.left:
            return
        optimizer.zero_grad()
        with torch.enable_grad():
            (settings.prior_weight * settings.prior_power * latent_prior(latents)).sum().backward()
        assert latents.grad is not None
        latents.grad += passes.backward(budget.check_stop)
        budget.evaluations += (COST_WITH_GRADIENT - 1) * len(seeds)
        if transform is not None:
            latents.grad = transform(latents.grad, images)
        clip(latents, settings.max_grad_norm)
        moved.backward(latents.grad)
        optimizer.step()


def clip(latents: Tensor, max_grad_norm: float) -> None:
    """Scale each latent's gradient down to a norm separately, so that a batch gives what its latents give alone."""
    assert latents.grad is not None
    norm = latents.grad.flatten(1).norm(dim=1).clamp(min=math.ulp(1.0))
    latents.grad *= (max_grad_norm / norm).clamp(max=1)[:, None, None, None]


@torch.no_grad()
def _decoded_by_vae(draft: Step, problem: Problem, budget: Budget) -> Tensor:
    budget.check_stop()
    latents = draft.latents[None]
    images = retry_with_low_memory(
        problem.backbone, lambda: problem.backbone.render(latents, problem.embeds, [draft.seed]), problem.graphs.release
    )
    budget.evaluations += 1
    budget.check_stop()
    return images
