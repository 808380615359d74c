"""Training of a count token: vectors that replace a number word, for any object, prompt and seed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

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
from countgen.methods.step import COST_WITH_GRADIENT, Budget, Step, steps_of
from countgen.models import Models
from countgen.prompts import Target
from countgen.prompts.number_words import number_word
from countgen.prompts.placeholders import placeholder_of
from countgen.prompts.plurals import counted
from countgen.tokens.checkpoint import Checkpoint, Validation, load_checkpoint, save_checkpoint
from countgen.tokens.file import CountToken
from countgen.tokens.settings import FIRST_SEED, FIRST_VALIDATION_SEED, LearnSettings
from countgen.tokens.textual_inversion import injected, word_vectors

TEACHER_TEMPLATE = "{number} {objects}"
"""Template of the prompts that the token is distilled from: short ones count better."""


@dataclass
class Learning:
    """A training run of a token: iterate over it for its `Step`s, and read `token` at any time for the best so far.

    Iteration can be stopped after any step. It has two phases:

    - "distill": the token's prompts learn to give the samples of short prompts with the number word. Gradients of
      these samples agree across images, unlike those of a count loss, so few steps are enough. The vectors are kept
      if they validate better than the number word.
    - "train": steps on the count loss, until its validations no longer improve.

    A step has the first image of its batch and the mean loss of the batch. Its soft count is that of the image in
    "distill", and the mean of the batch in "train".

    Args:
        models: models to train with, which stay frozen; the critics are used, the judge is not.
        target_count: count that the token stands for.
        object_names: names of the objects to train on, singular; the more objects, the better the token generalises.
        settings: settings of the training.
        checkpoint: file written at the beginning and after every step; an existing one is resumed.
        licence: licence of the trained vectors.

    Attributes:
        state: vectors, validations, and what has been spent so far.

    Raises:
        ValueError: there are no objects, a detector does not know an object, no critic detects objects for the
            semantic loss, or the number word has more than `num_vectors` tokens.
        CheckpointError: the checkpoint is damaged or belongs to another training run.

    >>> learning = Learning(models, 7, ["apple", "dog", "cup"])  # doctest: +SKIP
    >>> for step in learning: print(step.index, step.loss)  # doctest: +SKIP
    >>> save_token(learning.token, "count-7.safetensors")  # doctest: +SKIP
    """

    models: Models
    target_count: int
    object_names: Sequence[str]
    settings: LearnSettings = field(default_factory=LearnSettings)
    checkpoint: Path | None = None
    licence: str = "Apache-2.0"

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
            (
                base_model(backbone),
                str(self.target_count),
                *self.object_names,
                self.settings.config_hash,
                *(critic.name for critic in self.models.critics),
                *backbone.loaded_as,
                f"{backbone.num_inference_steps} steps, guidance {backbone.guidance_scale:g}",
                f"{backbone.width}x{backbone.height}",
            )
        )
        saved = load_checkpoint(self.checkpoint, self._identity) if self.checkpoint else None
        word = number_word(self.target_count)
        self.state = saved or Checkpoint(vectors=word_vectors(backbone, word, self.settings.num_vectors))

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
            licence=self.licence,
        )

    def __iter__(self) -> Iterator[Step]:
        state = self.state
        self.budget = Budget(started=time.perf_counter() - state.seconds)
        self._save()
        if not state.validations:
            self._validate()
        if not state.distilled:
            yield from self._distill()
        yield from self._minimise_count_loss()

    def _distill(self) -> Iterator[Step]:
        settings, state = self.settings, self.state
        vectors, optimizer = self._resumed_optimizer(settings.distillation_rate)
        while state.distillation_steps < settings.distillation_steps:
            index = state.distillation_steps
            optimizer.param_groups[0]["lr"] = settings.distillation_rate * (1 - index / settings.distillation_steps)
            optimizer.zero_grad()
            with torch.enable_grad():
                step = self._distillation_backward(vectors, index)
            optimizer.step()
            state.update(vectors, optimizer)
            state.distillation_steps += 1
            self._save()
            yield step
        if settings.distillation_steps:
            self._validate()
        state.vectors, state.moments, state.validations_since_best = state.best, {}, 0
        state.distilled = True
        self._save()

    def _distillation_backward(self, vectors: Mapping[str, Tensor], index: int) -> Step:
        """Accumulate the gradient of one batch; the loss is the mean squared difference of the clean latents."""
        backbone = self.models.backbone
        losses = []
        first: dict[str, Any] = {}
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
            if not first:
                with torch.no_grad():
                    images = backbone.decode(sample)
                    evaluation = self._objective(target).evaluate(images)
                first = {"seeds": [seed], "images": images, "latents": latents, "evaluation": evaluation}
        return self._step(losses, phase="distill", index=index, **first)

    def _distillation_batch(self, index: int) -> list[tuple[str, Target, int]]:
        """Return template, target and seed of the examples of a distillation step."""
        settings, generator = self.settings, torch.Generator().manual_seed(self.settings.seed)
        number = settings.distillation_steps * settings.objects_per_step
        seeds = torch.randint(FIRST_SEED, (number,), generator=generator).tolist()
        batch = []
        for k in range(index * settings.objects_per_step, (index + 1) * settings.objects_per_step):
            target = self.targets[k % len(self.targets)]
            # The template changes after a round of all objects, so that every object occurs with every template.
            template = settings.templates[k // len(self.targets) % len(settings.templates)]
            batch.append((template, target, FIRST_SEED + seeds[k]))
        return batch

    def _minimise_count_loss(self) -> Iterator[Step]:
        settings, state = self.settings, self.state
        vectors, optimizer = self._resumed_optimizer(settings.learning_rate)
        while state.step < settings.num_optimization_steps and state.validations_since_best < settings.patience:
            optimizer.zero_grad()
            with torch.enable_grad():
                step = self._backward(vectors, state.step)
            optimizer.step()
            state.update(vectors, optimizer)
            state.step += 1
            if state.step == settings.num_optimization_steps or state.step % settings.validate_every == 0:
                self._validate()
            self._save()
            yield step

    def _backward(self, vectors: Mapping[str, Tensor], index: int) -> Step:
        """Accumulate the gradient of one batch, object by object, so that only one object's images are in memory."""
        settings = self.settings
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + index)

        def sample_below(limit: int, number: int) -> list[int]:
            return torch.randint(limit, (number,), generator=generator).tolist()

        losses, soft_counts = [], []
        first: dict[str, Any] = {}
        objects = torch.randperm(len(self.targets), generator=generator).tolist()[: settings.objects_per_step]
        for index_of_object in objects:
            target = self.targets[index_of_object]
            template = settings.templates[sample_below(len(settings.templates), 1)[0]]
            seeds = [FIRST_SEED + value for value in sample_below(FIRST_SEED, settings.seeds_per_object)]
            latents, images = self._render(vectors, template, target, seeds)
            evaluation = self._objective(target).evaluate(images)
            loss = evaluation.loss.mean()
            if self.detector is not None and settings.semantic_weight:
                loss = loss + settings.semantic_weight * (1 - object_probability(self.detector, images, target)).mean()
            self._check_finite(loss.item())
            (loss / len(objects)).backward()
            self.state.evaluations += COST_WITH_GRADIENT * len(seeds)
            losses.append(loss.item())
            soft_counts.append(evaluation.soft_counts)
            evaluation = replace(evaluation, loss=evaluation.loss.detach())
            first = first or {"seeds": seeds, "images": images.detach(), "latents": latents, "evaluation": evaluation}
        step = self._step(losses, phase="train", index=index, **first)
        return replace(step, soft_counts=(float(torch.cat(soft_counts).mean()),))

    @torch.no_grad()
    def _validate(self) -> None:
        """Validate the current vectors on images of fixed seeds; with fewer images than objects, not on all objects."""
        settings, state = self.settings, self.state
        right: list[bool] = []
        losses: list[float] = []
        counts: list[int] = []
        for target, numbers in zip(
            self.targets, torch.arange(settings.validation_images).tensor_split(len(self.targets)), strict=True
        ):
            by_template = zip(settings.templates, numbers.tensor_split(len(settings.templates)), strict=True)
            for template, batch in by_template:
                if not len(batch):
                    continue
                seeds = [FIRST_VALIDATION_SEED + number for number in batch.tolist()]
                _, images = self._render(state.vectors, template, target, seeds)
                for critic in self.models.critics:
                    evaluation = critic.evaluate(
                        images, {target.object_name: target.target_count}, LOSSES[settings.loss]
                    )
                    right += (evaluation.counts[:, 0] == target.target_count).tolist()
                    losses += evaluation.loss.tolist()
                    counts += evaluation.counts[:, 0].tolist()
        accuracy, loss, count = (sum(values) / len(values) for values in (right, losses, counts))
        self._check_finite(loss)
        state.evaluations += settings.validation_images
        state.record(Validation(state.step, accuracy, loss, count))

    def _resumed_optimizer(self, learning_rate: float) -> tuple[dict[str, Tensor], Adam]:
        """Return copies of the current vectors that require gradient, and Adam over them as the checkpoint has it."""
        vectors = {key: vectors.clone().requires_grad_() for key, vectors in self.state.vectors.items()}
        optimizer = Adam(vectors.values(), lr=learning_rate)
        self.state.restore(vectors, optimizer)
        return vectors, optimizer

    def _encoded(self, vectors: Mapping[str, Tensor], template: str, target: Target) -> PromptEmbeds:
        """Embed a prompt in which these vectors stand for the number."""
        objects = counted(target.object_name, target.target_count)
        with injected(self.models.backbone, {self.placeholder: vectors}) as encode:
            return encode(template.format(number=self.placeholder, objects=objects))

    def _render(
        self, vectors: Mapping[str, Tensor], template: str, target: Target, seeds: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Return latents (B, C, h, w) and images (B, 3, H, W) of a prompt, with these vectors for the number."""
        backbone = self.models.backbone
        embeds = self._encoded(vectors, template, target)
        latents = backbone.initial_latents(seeds)
        return latents, backbone.render(latents, embeds, seeds)

    def _objective(self, target: Target) -> Objective:
        return Objective(self.models.critics, (target,), PLAIN_VIEW, self.settings.loss)

    def _step(self, losses: Sequence[float], index: int, **fields: Any) -> Step:
        """Return the `Step` of a batch: its first image, and its mean loss."""
        self.budget.evaluations, self.budget.steps = self.state.evaluations, index + 1
        steps = steps_of(budget=self.budget, probability=torch.zeros(len(fields["seeds"])), sure=1, **fields)
        return replace(steps[0], loss=sum(losses) / len(losses))

    def _check_finite(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise NonFiniteLossError(
                f"the loss is not finite at step {self.state.step}; lower learning_rate or use float32"
            )

    def _save(self) -> None:
        self.state.seconds = self.budget.seconds
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
