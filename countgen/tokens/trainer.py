"""Training of a count token: vectors that replace a number word, for any object, prompt and seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from countgen.backbones.registry import base_model
from countgen.critics import Critic
from countgen.learning.settings import FIRST_SEED, TEMPLATES
from countgen.learning.training import Training
from countgen.methods.step import COST_WITH_GRADIENT, Step
from countgen.models import Models
from countgen.prompts import Target
from countgen.prompts.number_words import number_word
from countgen.prompts.placeholders import placeholder_of
from countgen.prompts.plurals import counted
from countgen.tokens.distillation import DistillationStep, Example, distill
from countgen.tokens.file import CountToken
from countgen.tokens.settings import LearnSettings
from countgen.tokens.textual_inversion import encoders_of, injected, length_of

__all__ = ["TEMPLATES", "LearnSettings", "Learning", "Semantic", "class_confidence", "learn_token"]

Semantic = Callable[[Tensor, Target], Tensor]
"""A function from images (B, 3, H, W) and a target to the probability of the object, float (B,), with gradient."""


def class_confidence(critic: Critic) -> Semantic:
    """Return a `Semantic` that is a detector's mean probability of the `target_count` best candidates."""

    def semantic(images: Tensor, target: Target) -> Tensor:
        (found,) = critic.candidates(images, [target.object_name])
        best = found.logits.masked_fill(~found.kept, -torch.inf).topk(min(target.target_count, found.logits.shape[1]))
        return best.values.sigmoid().mean(1)

    return semantic


@dataclass
class Learning(Training):
    """A training run of a token: iterate over it for its `Step`s, and read `token` at any time for the best so far.

    Iteration can be stopped after any step. Steps of the phase "distill" come first, then steps of the phase "train",
    which minimise the count loss. A step has the first image of its batch and the mean loss of the batch. Its soft
    count is the mean of the batch in "train", and that of the image in "distill".

    Args:
        models: models to train with; the critics are used, the judge is not.
        target_count: count that the token stands for.
        object_names: names of the objects to train on, singular; the more objects, the better the token generalises.
        settings: settings of the training.
        semantic: probability of the object in an image; by default the class score of the first critic that detects.
        checkpoint: file written at the beginning and after every step; an existing one is resumed.
        licence: licence of the trained vectors.

    Raises:
        ValueError: there are no objects, a detector does not know an object, no critic detects and `semantic` is not
            given, no encoder is trained, or the initial text has more than `num_vectors` tokens.
        CheckpointError: the checkpoint is damaged or belongs to another training run.
    """

    models: Models
    target_count: int
    object_names: Sequence[str]
    settings: LearnSettings = field(default_factory=LearnSettings)
    semantic: Semantic | None = None
    checkpoint: Path | None = None
    licence: str = "Apache-2.0"

    def __post_init__(self) -> None:
        if not self.object_names:
            raise ValueError("a token is trained on at least one object; give object_names")
        self.targets = tuple(Target(name, self.target_count) for name in self.object_names)
        for target in self.targets:
            self.models.check((target,))
        if self.semantic is None and self.settings.semantic_weight:
            critic = detecting(self.models)
            if critic is None:
                raise ValueError(
                    "none of the critics detects objects, which the semantic loss needs: add a critic that does, or "
                    "set semantic_weight to 0 (--semantic-weight 0), or give semantic= in Python"
                )
            self.semantic = class_confidence(critic)
        own = encoders_of(self.models.backbone)
        if not any(key in self.settings.encoders for key in own):
            raise ValueError(
                f"none of the encoders {', '.join(self.settings.encoders)} is in {self.models.backbone.name}, "
                f"which has {', '.join(own)}"
            )
        self.initial_vectors = self._vectors_of(self.settings.initial_text or number_word(self.target_count))
        self.state = self._resumed(self.initial_vectors)

    @property
    def _identity(self) -> str:
        critics = (critic.name for critic in self.models.critics)
        count, base = str(self.target_count), base_model(self.models.backbone)
        return "; ".join((base, count, *self.object_names, self.settings.config_hash, *critics, *self._sampled))

    @property
    def token(self) -> CountToken:
        """The token with the best validation so far, or with the initial vectors before the first validation."""
        return CountToken(
            placeholder_token=placeholder_of(self.target_count),
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

    @property
    def steps_made(self) -> int:
        """The number of completed steps, including those before a resume."""
        return self.state.distillation_steps + self.state.step

    def _is_trained(self, name: str) -> bool:
        return name in self.settings.encoders

    def _penalty(self, latents: Tensor, images: Tensor, target: Target, seeds: Sequence[int]) -> Tensor:
        """Return the weighted semantic loss, 1 - the probability of the object."""
        if self.semantic is None or not self.settings.semantic_weight:
            return images.new_zeros(())
        return self.settings.semantic_weight * (1 - self.semantic(images, target)).mean()

    def _render(
        self, parameters: Mapping[str, Tensor], template: str, target: Target, seeds: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Return latents and images of a prompt in which these vectors replace the number."""
        backbone = self.models.backbone
        placeholder = placeholder_of(self.target_count)
        with injected(backbone, {placeholder: parameters}) as encode:
            objects = counted(target.object_name, target.target_count)
            embeds = encode(template.format(number=placeholder, objects=objects))
        latents = backbone.initial_latents(seeds)
        return latents, backbone.render(latents, embeds, seeds)

    def _vectors_of(self, text: str) -> dict[str, Tensor]:
        backbone = self.models.backbone
        number = self.settings.num_vectors
        return {key: encoder.vectors_of(text, number, backbone) for key, encoder in encoders_of(backbone).items()}

    def _start(self) -> Iterator[Step]:
        """Run the stages that choose the start of training: initial vectors, distillation and line search."""
        settings, state = self.settings, self.state
        if state.stage == "word":
            self._validate(self.initial_vectors)
            self._enter("imitate")
        if state.stage == "imitate":
            if settings.teacher is not None and settings.teacher_steps:
                yield from self._distill(settings.teacher)
                self._validate(state.parameters)
            self._enter("walk")
        if state.stage == "walk":
            self._line_search()
            state.parameters, state.validations_since_best = dict(state.best), 0
            self._enter("learn")

    def _distill(self, teacher: str) -> Iterator[Step]:
        settings, state = self.settings, self.state
        vectors = self._parameters()
        optimizer = torch.optim.Adam((v for v in vectors.values() if v.requires_grad), lr=settings.teacher_rate)
        state.restore(vectors, optimizer, state.distillation_steps)
        for step in distill(
            self.models.backbone,
            placeholder_of(self.target_count),
            vectors,
            optimizer,
            self._distillation_examples(teacher),
            examples_per_step=settings.objects_per_step,
            completed_steps=state.distillation_steps,
        ):
            state.distillation_steps += 1
            state.evaluations += (1 + COST_WITH_GRADIENT) * len(step.examples)
            state.update(vectors, optimizer)
            self._save()
            yield self._evaluated(step)

    @torch.no_grad()
    def _evaluated(self, step: DistillationStep) -> Step:
        first = step.examples[0]
        image = self.models.backbone.decode(step.sample)
        evaluation = self._objective(first.target).evaluate(image)
        return self._step(
            evaluation,
            phase="distill",
            index=self.state.distillation_steps - 1,
            seed=first.seed,
            loss=step.loss,
            soft_counts=(float(evaluation.soft_counts[0, 0]),),
            image=image[0],
            latents=step.latents[0],
        )

    def _distillation_examples(self, teacher: str) -> list[Example]:
        settings = self.settings
        placeholder, word = placeholder_of(self.target_count), number_word(self.target_count)
        generator = torch.Generator().manual_seed(settings.seed)
        number = settings.teacher_steps * settings.objects_per_step
        examples = []
        for k, seed in enumerate(torch.randint(FIRST_SEED, (number,), generator=generator).tolist()):
            target = self.targets[k % len(self.targets)]
            # The template changes after a round of all objects, so that every object occurs with every template.
            template = settings.templates[k // len(self.targets) % len(settings.templates)]
            objects = counted(target.object_name, target.target_count)
            prompt = template.format(number=placeholder, objects=objects)
            examples.append(Example(prompt, teacher.format(number=word, objects=objects), target, FIRST_SEED + seed))
        return examples

    def _line_search(self) -> None:
        """Search from the best vectors along the line to the neighbouring number word, while validations improve.

        The neighbour is the lower number if the mean count of the best vectors is too high, otherwise the higher one.
        """
        settings, state = self.settings, self.state
        if not settings.initial_step:
            return
        sign = -1 if self.best_validation.count > self.target_count else 1
        neighbour = number_word(self.target_count + sign)
        if length_of(neighbour, self.models.backbone) > settings.num_vectors:
            return
        ends, base = self._vectors_of(neighbour), dict(state.best)
        for number in range(1, settings.initial_tries + 1):
            distance = number * settings.initial_step
            tried = {
                key: base[key] + distance * (ends[key] - self.initial_vectors[key])
                if key in settings.encoders
                else base[key]
                for key in base
            }
            if not self._validate(tried):
                break


def detecting(models: Models) -> Critic | None:
    """Return the first critic that detects objects and their classes, or None if all critics only count."""
    return next((critic for critic in models.critics if critic.detects), None)


def learn_token(
    models: Models,
    target_count: int,
    object_names: Sequence[str],
    settings: LearnSettings | None = None,
    *,
    semantic: Semantic | None = None,
    checkpoint: Path | None = None,
) -> Learning:
    """Return a training run to iterate over; its `token` is the best so far.

    >>> learning = learn_token(models, 7, ["apple", "dog", "cup"])  # doctest: +SKIP
    >>> for step in learning: print(step.index, step.loss)  # doctest: +SKIP
    >>> save_token(learning.token, "count-7.safetensors")  # doctest: +SKIP
    """
    return Learning(models, target_count, object_names, settings or LearnSettings(), semantic, checkpoint)
