"""Tune the initial noise of a frozen pipeline until the count is right."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from countgen.backbones import Backbone, PromptEmbeds
from countgen.errors import NonFiniteLossError
from countgen.methods.forward_backward import Question, prepare
from countgen.methods.latent_modifier import PARAMETRISATIONS
from countgen.methods.objective import CONFIRMING, Verdict, View
from countgen.methods.search import Accept, SearchSettings, confirmed
from countgen.methods.step import COST_WITH_GRADIENT, Budget, Step
from countgen.prompts import Target
from critics.base import Critic
from critics.losses import LOSSES

OPTIMIZERS = {
    "adam": lambda parameters, lr: torch.optim.Adam(parameters, lr=lr),
    "sgd": lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.9, nesterov=True),
}


@dataclass(frozen=True)
class NoiseSettings:
    """How the initial noise is tuned. The defaults are those that `benchmarks.tuning` chose.

    Attributes:
        num_optimization_steps: for one starting point; then the next seed is tried.
        learning_rate: of the optimizer, on latents of unit variance.
        parametrisation: what the optimizer moves: the "latents" themselves, or "lmn", the weights of D2D's latent
            modifier network, which needs a far smaller learning_rate.
        original_share: of the original noise in the output of "lmn", D2D's w: at 0 the network may replace all of
            it, which counts best and leaves patches.
        optimizer: "adam", or "sgd" (Nesterov 0.9, as ReNO).
        loss: a name in `critics.losses.LOSSES`.
        prior_weight: of `latent_prior`, which keeps the latents' norm typical of noise.
        prior_power: that the prior's density is raised to, 10 in D2D; its negative logarithm is multiplied by it.
        max_grad_norm: each latent's gradient is scaled down to this norm, after the backward.
        views: in the loss and in the confirmation.
    """

    num_optimization_steps: int = 12
    learning_rate: float = 0.08
    optimizer: str = "adam"
    parametrisation: str = "latents"
    original_share: float = 0.2
    loss: str = "margin"
    prior_weight: float = 0.01
    prior_power: float = 1.0
    max_grad_norm: float = 10.0
    views: tuple[View, ...] = CONFIRMING

    def __post_init__(self) -> None:
        if self.num_optimization_steps < 1:
            raise ValueError(f"num_optimization_steps must be at least 1, got {self.num_optimization_steps}")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"unknown optimizer {self.optimizer!r}; available: {', '.join(OPTIMIZERS)}")
        if self.parametrisation not in PARAMETRISATIONS:
            raise ValueError(
                f"unknown parametrisation {self.parametrisation!r}; available: {', '.join(PARAMETRISATIONS)}"
            )
        if not 0 <= self.original_share < 1:
            raise ValueError(f"original_share must be at least 0 and below 1, got {self.original_share}")
        if self.loss not in LOSSES:
            raise ValueError(f"unknown loss {self.loss!r}; available: {', '.join(LOSSES)}")
        if not (self.learning_rate > 0 and self.max_grad_norm > 0 and min(self.prior_weight, self.prior_power) >= 0):
            raise ValueError("learning_rate and max_grad_norm must be above 0, prior_weight and prior_power at least 0")


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


def optimize_noise(
    backbone: Backbone,
    critics: Sequence[Critic],
    embeds: PromptEmbeds,
    targets: Sequence[Target],
    seed: int,
    budget: Budget,
    settings: NoiseSettings | None = None,
    accept: Accept = confirmed,
) -> Iterator[Step]:
    """Refine one seed after the other until a candidate is accepted or the budget is spent.

    Raises:
        NonFiniteLossError: the loss is not a number; the message names the step.
    """
    settings = settings or NoiseSettings()
    index = 0
    for seeds in SearchSettings(batch_size=1, first_batch_size=1).batches(seed):
        for step in refine(
            backbone, critics, embeds, targets, backbone.initial_latents(seeds), seeds, budget, settings, index
        ):
            yield step
            if accept(step) or not budget.left:
                return
            index = step.index + 1


def refine(
    backbone: Backbone,
    critics: Sequence[Critic],
    embeds: PromptEmbeds,
    targets: Sequence[Target],
    latents: Tensor,
    seeds: Sequence[int],
    budget: Budget,
    settings: NoiseSettings,
    first_index: int = 0,
) -> Iterator[Step]:
    """Move a batch of latents down the gradient, until one of them is confirmed or the steps are used.

    Args:
        latents: float (B, C, h, w); not changed.
        seeds: they came from.
        first_index: of the first `Step`.

    Yields:
        The best `Step` of the batch, once per gradient step. Where the backbone has a tiny decoder, gradients look
        through it, and the VAE draws the picture of every step that is yielded: those that look better than all
        before, and the last.
    """
    start = PARAMETRISATIONS[settings.parametrisation](latents.detach().float(), settings.original_share)
    optimizer = OPTIMIZERS[settings.optimizer](start.parameters(), settings.learning_rate)
    question = Question(tuple(critics), tuple(targets), settings.views, settings.loss)
    # A draft and its picture are two evaluations; who has one left looks through the VAE itself.
    draft = backbone.tiny_vae is not None and budget.evaluations_left > len(seeds)
    iteration = prepare(backbone, embeds, seeds, question, draft=draft)
    last_index = first_index + settings.num_optimization_steps - 1
    highest = -math.inf
    for index in range(first_index, last_index + 1):
        with torch.enable_grad():  # the caller may iterate under no_grad
            moved = start()
        latents = moved.detach().requires_grad_(True)
        images, verdict = iteration.look(latents)
        budget.evaluations += len(seeds)
        if not torch.isfinite(verdict.loss).all():
            raise NonFiniteLossError(f"the loss is not finite at step {index}; lower learning_rate or use float32")
        best = max(_steps(index, seeds, latents, images, verdict, budget), key=lambda step: step.rank)
        # A gradient is worth its price only with the look after it; a draft's pictures are paid for too.
        next_cost = COST_WITH_GRADIENT * len(seeds) + 2 * draft
        last = index == last_index or budget.evaluations_left < next_cost
        if not draft:
            yield best
        elif best.rank > highest or last or not budget.left:
            highest = max(highest, best.rank)
            shown = _drawn_by_the_vae(best, backbone, embeds, question, budget)
            yield shown
            if shown.confirmed:
                return
        # A draft that is confirmed, by the VAE or not, has no gradient left; after the last look none is needed.
        if best.confirmed or last:
            return
        optimizer.zero_grad()
        with torch.enable_grad():
            (settings.prior_weight * settings.prior_power * latent_prior(latents)).sum().backward()
        assert latents.grad is not None
        latents.grad += iteration.gradient()
        budget.evaluations += (COST_WITH_GRADIENT - 1) * len(seeds)
        clip(latents, settings.max_grad_norm)
        moved.backward(latents.grad)
        optimizer.step()


def clip(latents: Tensor, max_grad_norm: float) -> None:
    """Scale each latent's gradient down to a norm, on its own, so that a batch equals its singles."""
    assert latents.grad is not None
    norm = latents.grad.flatten(1).norm(dim=1).clamp(min=math.ulp(1.0))
    latents.grad *= (max_grad_norm / norm).clamp(max=1)[:, None, None, None]


def _steps(
    index: int, seeds: Sequence[int], latents: Tensor, images: Tensor, verdict: Verdict, budget: Budget
) -> list[Step]:
    return [
        Step(
            index=index,
            phase="refine",
            seed=seeds[row],
            loss=float(verdict.loss[row]),
            soft_counts=tuple(verdict.soft_counts[row].tolist()),
            counts=tuple(verdict.counts[row].tolist()),
            margin=float(verdict.margin[row]),
            image=images[row],
            latents=latents[row].detach().clone(),
            evaluations=budget.evaluations,
            seconds=budget.seconds,
        )
        for row in range(len(seeds))
    ]


@torch.no_grad()
def _drawn_by_the_vae(
    draft: Step, backbone: Backbone, embeds: PromptEmbeds, question: Question, budget: Budget
) -> Step:
    latents = draft.latents[None]
    images = backbone.render(latents, embeds, [draft.seed])
    budget.evaluations += 1
    return _steps(draft.index, [draft.seed], latents, images, question.ask(images), budget)[0]
