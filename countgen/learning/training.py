"""The training loop of count tokens: batches, validation, patience and checkpoints."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from countgen.critics import Evaluation
from countgen.critics.losses import LOSSES
from countgen.errors import NonFiniteLossError
from countgen.learning.checkpoint import Checkpoint, Validation, load_checkpoint, save_checkpoint
from countgen.learning.settings import FIRST_SEED, FIRST_VALIDATION_SEED, TrainingSettings
from countgen.methods.objective import PLAIN_VIEW, Objective
from countgen.methods.step import COST_WITH_GRADIENT, Budget, Step
from countgen.models import Models
from countgen.prompts import Target


class Training(ABC):
    """A training run: iterate over it for its `Step`s; the best parameters so far are in `state.best` at any time.

    Iteration can be stopped after any step. Steps on the count loss have the phase "train", the first image of their
    batch, and the mean loss and the mean soft count of the batch.

    Subclasses are dataclasses of what is trained. They set `targets` and `state` (from `_resumed`), and implement
    the abstract methods.

    Attributes:
        models: models to train with; the critics are used, the judge is not.
        settings: settings of the training.
        checkpoint: file written at the beginning and after every step; an existing one is resumed.
        targets: object classes with their counts, from which batches are sampled.
        state: parameters, validations and what has been spent so far.
    """

    models: Models
    settings: TrainingSettings
    checkpoint: Path | None
    targets: tuple[Target, ...]
    state: Checkpoint

    @property
    @abstractmethod
    def _identity(self) -> str:
        """The identity of the training run, which its checkpoint must have too."""

    @property
    def _sampled(self) -> tuple[str, ...]:
        """How the model was loaded and samples; a part of the identity."""
        backbone = self.models.backbone
        sampling = f"{backbone.num_inference_steps} steps, guidance {backbone.guidance_scale:g}"
        return (*backbone.loaded_as, sampling, f"{backbone.width}x{backbone.height}")

    @abstractmethod
    def _render(
        self, parameters: Mapping[str, Tensor], template: str, target: Target, seeds: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Return the latents (B, C, h, w) and images (B, 3, H, W) of a prompt with these parameters."""

    @abstractmethod
    def _penalty(self, latents: Tensor, images: Tensor, target: Target, seeds: Sequence[int]) -> Tensor:
        """Return what is added to the mean count loss of latents and images from `_render`."""

    @abstractmethod
    def _start(self) -> Iterator[Step]:
        """Run the stages before the steps on the count loss, and yield their steps."""

    @abstractmethod
    def _is_trained(self, name: str) -> bool:
        """Return whether a parameter is trained; the others keep their initial values."""

    @property
    def _finished(self) -> bool:
        """Whether the steps on the count loss are used up."""
        return self.state.step >= self.settings.num_optimization_steps

    @property
    def validations(self) -> list[Validation]:
        """All validations so far, including those before a resume."""
        return self.state.validations

    @property
    def best_validation(self) -> Validation:
        """The validation of the best parameters."""
        return self.state.best_validation

    def _resumed(self, initial: Mapping[str, Tensor]) -> Checkpoint:
        """Return the state of the checkpoint, or that of a run that begins with these parameters.

        Raises:
            CheckpointError: the checkpoint is damaged or belongs to another training run.
        """
        state = load_checkpoint(self.checkpoint, self._identity) if self.checkpoint else None
        return state or Checkpoint(dict(initial))

    def __iter__(self) -> Iterator[Step]:
        settings, state = self.settings, self.state
        self.budget = Budget(started=time.perf_counter() - state.seconds)
        self._save()
        yield from self._start()
        parameters = self._parameters()
        trained = [parameter for parameter in parameters.values() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=0.0)
        state.restore(parameters, optimizer, state.step)
        finished = self._finished
        while not finished and state.validations_since_best < settings.patience:
            optimizer.zero_grad()
            with torch.enable_grad():
                step = self._backward(parameters, state.step)
            optimizer.step()
            state.step += 1
            state.update(parameters, optimizer)
            state.seconds = self.budget.seconds
            finished = self._finished
            if finished or state.step % settings.validate_every == 0:
                self._validate(state.parameters)
            self._save()
            yield step

    def _save(self) -> None:
        self.state.seconds = self.budget.seconds
        if self.checkpoint:
            save_checkpoint(self.state, self.checkpoint, self._identity)

    def _enter(self, stage: str) -> None:
        self.state.stage, self.state.moments = stage, {}
        self._save()

    def _parameters(self) -> dict[str, Tensor]:
        """Return copies of the current parameters; those that are trained require gradient."""
        # Sorted, as checkpoints are: the norm of all gradients depends on their order by rounding.
        ordered = sorted(self.state.parameters.items())
        return {name: value.clone().requires_grad_(self._is_trained(name)) for name, value in ordered}

    def _backward(self, parameters: Mapping[str, Tensor], index: int) -> Step:
        """Accumulate the gradient of one batch, object by object, so that only one object's images are in memory."""
        settings = self.settings
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + index)

        def sample_below(limit: int, number: int) -> list[int]:
            return torch.randint(limit, (number,), generator=generator).tolist()

        parts = []
        objects = torch.randperm(len(self.targets), generator=generator).tolist()[: settings.objects_per_step]
        for index_of_object in objects:
            target = self.targets[index_of_object]
            template = settings.templates[sample_below(len(settings.templates), 1)[0]]
            seeds = [FIRST_SEED + value for value in sample_below(FIRST_SEED, settings.seeds_per_object)]
            latents, images = self._render(parameters, template, target, seeds)
            evaluation = self._objective(target).evaluate(images)
            loss = evaluation.loss.mean() + self._penalty(latents, images, target, seeds)
            if not torch.isfinite(loss):
                raise NonFiniteLossError(f"the loss is not finite at step {index}; lower learning_rate or use float32")
            (loss / len(objects)).backward()
            self.state.evaluations += COST_WITH_GRADIENT * len(seeds)
            parts.append((seeds[0], latents[0].detach(), images[0].detach(), evaluation, loss.item()))
        seed, latent, image, evaluation, _ = parts[0]
        return self._step(
            evaluation,
            phase="train",
            index=index,
            seed=seed,
            loss=sum(part[4] for part in parts) / len(parts),
            soft_counts=(float(torch.cat([part[3].soft_counts for part in parts]).mean()),),
            image=image,
            latents=latent,
        )

    def _objective(self, target: Target) -> Objective:
        return Objective(self.models.critics, (target,), PLAIN_VIEW, self.settings.loss)

    def _step(self, evaluation: Evaluation, **fields: Any) -> Step:
        """Return the `Step` of a batch, with the counts of the first image of its evaluation."""
        return Step(
            counts=tuple(evaluation.counts[0].tolist()),
            margin=float(evaluation.margin[0]),
            evaluations=self.state.evaluations,
            seconds=self.budget.seconds,
            **fields,
        )

    def _validation_batches(self) -> Iterator[tuple[Target, str, list[int]]]:
        """Yield the target, the template and the numbers of the images of every validation batch."""
        by_target = torch.arange(self.settings.validation_images).tensor_split(len(self.targets))
        for target, numbers in zip(self.targets, by_target, strict=True):
            parts = numbers.tensor_split(len(self.settings.templates))
            for template, part in zip(self.settings.templates, parts, strict=True):
                if len(part):
                    yield target, template, part.tolist()

    @torch.no_grad()
    def _validate(self, parameters: Mapping[str, Tensor]) -> bool:
        """Validate parameters on images of fixed seeds, and return whether they are the best so far."""
        right, losses, counts = [], [], []
        for target, template, numbers in self._validation_batches():
            _, images = self._render(parameters, template, target, [FIRST_VALIDATION_SEED + n for n in numbers])
            for critic in self.models.critics:
                evaluation = critic.evaluate(
                    images, {target.object_name: target.target_count}, LOSSES[self.settings.loss]
                )
                right += (evaluation.counts[:, 0] == target.target_count).tolist()
                losses += evaluation.loss.tolist()
                counts += evaluation.counts[:, 0].tolist()
        self.state.evaluations += self.settings.validation_images
        means = (sum(values) / len(values) for values in (right, losses, counts))
        return self.state.record(parameters, Validation(self.state.step, *means))
