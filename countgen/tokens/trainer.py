"""Training of a count token: vectors that replace a number word, for any object, prompt and seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor
from torch.optim import Adam

from countgen.backbones import Backbone, PromptEmbeds
from countgen.backbones.gradient_scaling import GradientScale
from countgen.backbones.registry import base_model
from countgen.critics import Critic
from countgen.critics.losses import LOSSES
from countgen.errors import NonFiniteLossError
from countgen.methods.objective import PLAIN_VIEW, Objective
from countgen.methods.step import COST_WITH_GRADIENT
from countgen.models import Models
from countgen.prompts import Target
from countgen.prompts.number_words import number_word
from countgen.prompts.plurals import counted
from countgen.prompts.prompt import placeholder_of
from countgen.tokens.checkpoint import Checkpoint, Validation, load_checkpoint, save_checkpoint
from countgen.tokens.file import CountToken
from countgen.tokens.settings import FIRST_SEED, FIRST_VALIDATION_SEED, LearnSettings
from countgen.tokens.textual_inversion import injected, word_vectors

Vectors = dict[str, Tensor]
"""The vectors of a token by text encoder."""

TEACHER_TEMPLATE = "{number} {objects}"
"""Template of the prompts that the token is distilled from: short ones count better."""


@dataclass(frozen=True)
class TrainingStep:
    """A step of a training run.

    Attributes:
        phase: "distill" or "train".
        index: 0, 1, ... within the phase.
        loss: mean over the batch.
        soft_count: the first critic's mean soft count over the batch; None in "distill", which counts nothing.
    """

    phase: str
    index: int
    loss: float
    soft_count: float | None = None


@dataclass
class Learning:
    """A training run of a token: iterate over it for its steps, and read `token` at any time for the best so far.

    Iteration can be stopped after any step. It has two phases:

    - "distill": the token's prompts learn to give the samples of short prompts with the number word. Gradients of
      these samples agree across images, unlike those of a count loss, so few steps are enough. The vectors are kept
      if they validate better than the number word.
    - "train": steps on the count loss, until its validations no longer improve.

    Args:
        models: models to train with, which stay frozen; the critics are used, the judge is not.
        target_count: count that the token stands for.
        object_names: names of the objects to train on, singular; the more objects, the better the token generalises.
        settings: settings of the training.
        checkpoint: file written at the beginning and after every step; an existing one is resumed.

    Attributes:
        state: vectors, validations, and what has been spent so far.

    Raises:
        ValueError: there are no objects, a detector does not know an object, no critic detects objects for the
            semantic loss, or the number word has more than `num_vectors` tokens.
        CheckpointError: the checkpoint is damaged or belongs to another training run.
    """

    models: Models
    target_count: int
    object_names: Sequence[str]
    settings: LearnSettings = field(default_factory=LearnSettings)
    checkpoint: Path | None = None

    def __post_init__(self) -> None:
        if not self.object_names:
            raise ValueError("a token is trained on at least one object; give object_names")
        self.targets = tuple(Target(name, self.target_count) for name in self.object_names)
        for target in self.targets:
            self.models.check((target,))
        self.detector = next((critic for critic in self.models.critics if critic.detects), None)
        if self.detector is None and self.settings.semantic_weight:
            raise ValueError(
                "none of the critics detects objects, which the semantic loss needs: add a critic that does, or set "
                "semantic_weight to 0 (--semantic-weight 0)"
            )
        backbone = self.models.backbone
        self.placeholder = placeholder_of(self.target_count)
        self._identity = "; ".join(
            [
                *(base_model(backbone), str(self.target_count), *self.object_names, self.settings.config_hash),
                *(critic.name for critic in self.models.critics),
                *backbone.loaded_as,
                f"{backbone.num_inference_steps} steps, guidance {backbone.guidance_scale:g}",
                f"{backbone.width}x{backbone.height}",
            ]
        )
        saved = load_checkpoint(self.checkpoint, self._identity) if self.checkpoint else None
        vectors = word_vectors(backbone, number_word(self.target_count), self.settings.num_vectors)
        self.state = saved or Checkpoint(vectors=vectors)

    @property
    def token(self) -> CountToken:
        """The token with the best validation so far, or with the number word's vectors before the first validation."""
        return CountToken(
            placeholder_token=self.placeholder,
            target_count=self.target_count,
            vectors={key: vectors.clone() for key, vectors in self.state.best.items()},
            base_model=base_model(self.models.backbone),
            revision=self.models.backbone.preset.revision,
            object_names=tuple(self.object_names),
            critic=", ".join(critic.name for critic in self.models.critics),
            config_hash=self.settings.config_hash,
            accuracy=None,
            licence="Apache-2.0",
        )

    def __iter__(self) -> Iterator[TrainingStep]:
        state = self.state
        self._save()
        if not state.validations:
            self._validate()
        if not state.distilled:
            yield from self._distill()
        yield from self._minimise_count_loss()

    def _distill(self) -> Iterator[TrainingStep]:
        settings, state = self.settings, self.state
        vectors, optimizer = self._resumed_optimizer(settings.distillation_rate)
        while state.distillation_steps < settings.distillation_steps:
            index = state.distillation_steps
            optimizer.param_groups[0]["lr"] = settings.distillation_rate * (1 - index / settings.distillation_steps)
            step = self._take_step(vectors, optimizer, self._distillation_backward, index)
            state.distillation_steps += 1
            self._save()
            yield step
        if settings.distillation_steps:
            self._validate()
        state.vectors, state.moments, state.validations_since_best = state.best, {}, 0
        state.distilled = True
        self._save()

    def _distillation_backward(self, vectors: Vectors, index: int) -> TrainingStep:
        """Accumulate the gradient of one batch; the loss is the mean squared difference of the clean latents."""
        backbone = self.models.backbone
        losses: list[float] = []
        for template, target, seed in self._distillation_batch(index):
            latents = backbone.initial_latents([seed])
            objects = counted(target.object_name, target.target_count)
            with torch.no_grad():
                teacher = TEACHER_TEMPLATE.format(number=number_word(target.target_count), objects=objects)
                expected = backbone.sample(latents, backbone.encode_prompt(teacher), [seed])
            sample = _sample(backbone, latents, self._encoded(vectors, template, target), seed)
            loss = (sample - expected.float()).square().mean()
            loss.backward()
            self.state.evaluations += 1 + COST_WITH_GRADIENT
            losses.append(loss.item())
        return TrainingStep("distill", index, fmean(losses))

    def _distillation_batch(self, index: int) -> Iterator[tuple[str, Target, int]]:
        """Yield template, target and seed of the examples of a distillation step."""
        settings, generator = self.settings, torch.Generator().manual_seed(self.settings.seed)
        number = settings.distillation_steps * settings.objects_per_step
        seeds = torch.randint(FIRST_SEED, (number,), generator=generator).tolist()
        for k in range(index * settings.objects_per_step, (index + 1) * settings.objects_per_step):
            # The template changes after a round of all objects, so that every object occurs with every template.
            template = settings.templates[k // len(self.targets) % len(settings.templates)]
            yield template, self.targets[k % len(self.targets)], FIRST_SEED + seeds[k]

    def _minimise_count_loss(self) -> Iterator[TrainingStep]:
        settings, state = self.settings, self.state
        vectors, optimizer = self._resumed_optimizer(settings.learning_rate)
        while state.step < settings.num_optimization_steps and state.validations_since_best < settings.patience:
            step = self._take_step(vectors, optimizer, self._backward, state.step)
            state.step += 1
            if state.step == settings.num_optimization_steps or state.step % settings.validate_every == 0:
                self._validate()
            self._save()
            yield step

    def _backward(self, vectors: Vectors, index: int) -> TrainingStep:
        """Accumulate the gradient of one batch, object by object, so that only one object's images are in memory."""
        settings = self.settings
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + index)

        losses: list[float] = []
        soft_counts: list[float] = []
        objects = torch.randperm(len(self.targets), generator=generator).tolist()[: settings.objects_per_step]
        for target in (self.targets[position] for position in objects):
            template = settings.templates[int(torch.randint(len(settings.templates), (1,), generator=generator))]
            above = torch.randint(FIRST_SEED, (settings.seeds_per_object,), generator=generator)
            seeds = (FIRST_SEED + above).tolist()
            images = self._render(vectors, template, target, seeds)
            evaluation = Objective(self.models.critics, (target,), PLAIN_VIEW, settings.loss).evaluate(images)
            loss = evaluation.loss.mean()
            if self.detector is not None and settings.semantic_weight:
                loss = loss + settings.semantic_weight * (1 - object_probability(self.detector, images, target)).mean()
            self._check_finite(loss.item())
            (loss / len(objects)).backward()
            self.state.evaluations += COST_WITH_GRADIENT * len(seeds)
            losses.append(loss.item())
            soft_counts += evaluation.soft_counts[:, 0].tolist()
        return TrainingStep("train", index, fmean(losses), fmean(soft_counts))

    def _take_step(
        self, vectors: Vectors, optimizer: Adam, backward: Callable[[Vectors, int], TrainingStep], index: int
    ) -> TrainingStep:
        optimizer.zero_grad()
        with torch.enable_grad():
            step = backward(vectors, index)
        optimizer.step()
        self.state.update(vectors, optimizer)
        return step

    @torch.no_grad()
    def _validate(self) -> None:
        """Validate the current vectors on images of fixed seeds; with fewer images than objects, not on all objects."""
        settings, state = self.settings, self.state
        right: list[bool] = []
        losses: list[float] = []
        examples = list(product(self.targets, settings.templates))
        by_target = torch.arange(settings.validation_images).tensor_split(len(self.targets))
        batches = [batch for numbers in by_target for batch in numbers.tensor_split(len(settings.templates))]
        for (target, template), batch in zip(examples, batches, strict=True):
            if not len(batch):
                continue
            images = self._render(state.vectors, template, target, (FIRST_VALIDATION_SEED + batch).tolist())
            for critic in self.models.critics:
                evaluation = critic.evaluate(images, {target.object_name: target.target_count}, LOSSES[settings.loss])
                right += (evaluation.counts[:, 0] == target.target_count).tolist()
                losses += evaluation.loss.tolist()
        self._check_finite(fmean(losses))
        state.evaluations += settings.validation_images
        state.record(Validation(state.step, fmean(right), fmean(losses)))

    def _resumed_optimizer(self, learning_rate: float) -> tuple[Vectors, Adam]:
        """Return copies of the current vectors that require gradient, and Adam over them as the checkpoint has it."""
        vectors = {key: vectors.clone().requires_grad_() for key, vectors in self.state.vectors.items()}
        optimizer = Adam(vectors.values(), lr=learning_rate)
        self.state.restore(vectors, optimizer)
        return vectors, optimizer

    def _encoded(self, vectors: Vectors, template: str, target: Target) -> PromptEmbeds:
        """Embed a prompt in which these vectors stand for the number."""
        objects = counted(target.object_name, target.target_count)
        with injected(self.models.backbone, self.placeholder, vectors) as encode:
            return encode(template.format(number=self.placeholder, objects=objects))

    def _render(self, vectors: Vectors, template: str, target: Target, seeds: Sequence[int]) -> Tensor:
        """Return images (B, 3, H, W) of a prompt in which these vectors stand for the number."""
        backbone = self.models.backbone
        return backbone.render(backbone.initial_latents(seeds), self._encoded(vectors, template, target), seeds)

    def _check_finite(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise NonFiniteLossError(
                f"the loss is not finite at step {self.state.step}; lower learning_rate or use float32"
            )

    def _save(self) -> None:
        if self.checkpoint:
            save_checkpoint(self.state, self.checkpoint, self._identity)


def object_probability(detector: Critic, images: Tensor, target: Target) -> Tensor:
    """Return a detector's mean probability of its `target_count` best candidates, (B,), with gradient."""
    (candidates,) = detector.candidates(images, [target.object_name])
    logits = candidates.logits.masked_fill(~candidates.kept, -torch.inf)
    return logits.topk(min(target.target_count, logits.shape[1])).values.sigmoid().mean(1)


def _sample(backbone: Backbone, latents: Tensor, embeds: PromptEmbeds, seed: int) -> Tensor:
    """Return `backbone.sample` in float32, with gradient scaling for float16 models as in `render`."""
    if backbone.dtype != torch.float16:
        return backbone.sample(latents, embeds, [seed]).float()
    scale = GradientScale()
    embeds = scale.unscale_embeds(embeds)
    return scale.scale_gradient(backbone.sample(latents, embeds, [seed]).float())
