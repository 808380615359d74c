"""Learn a count token beyond the number words: the mean number direction of many prompts, and its best offset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from countgen.backbones import PromptEmbeds
from countgen.backbones.registry import base_model
from countgen.models import Models
from countgen.number_slider.calibration import OFFSETS, Calibration
from countgen.prompts import Target
from countgen.prompts.number_words import number_word
from countgen.prompts.placeholders import placeholder_of
from countgen.prompts.plurals import counted
from countgen.tokens.checkpoint import Checkpoint, Validation, load_checkpoint, save_checkpoint
from countgen.tokens.direction import NumberDirection, Span, mean_direction
from countgen.tokens.file import CountToken
from countgen.tokens.settings import LearnSettings
from countgen.tokens.textual_inversion import encode_prompt, encoders_of, injected, length_of
from countgen.tokens.validation import validate

SETTINGS = LearnSettings(validation_pictures=96)
"""A count beyond the number words is rare in the images of any offset: fewer images do not separate two offsets."""


@dataclass
class DirectionLearning:
    """The learning of a token with a number direction: iterate over it for the validation of each offset.

    The direction is the mean over all classes and templates, without any image. Its offset is found by a line search
    from the calibration's best one for the count, farther where the mean count is too low, otherwise nearer, while
    validations improve. Iteration can be stopped after any validation; `token` is the best so far.

    Args:
        models: models to learn with; the critics are used, the judge is not.
        target_count: count that the token stands for.
        object_names: names of the objects to learn on, singular.
        calibration: of the model's number axis; gives lo, hi and the first offset.
        settings: templates, number of validation images and loss.
        checkpoint: file written after every validation; an existing one is resumed.
        licence: licence of the learned tensors.

    Raises:
        ValueError: there are no objects, a detector does not know an object, the calibration is of another model, or
            the count is not beyond its number words or farther than it reaches.
        TokenFileError: the checkpoint is damaged or belongs to another run.
    """

    models: Models
    target_count: int
    object_names: Sequence[str]
    calibration: Calibration
    settings: LearnSettings = SETTINGS
    checkpoint: Path | None = None
    licence: str = "Apache-2.0"
    state: Checkpoint = field(init=False)

    def __post_init__(self) -> None:
        if not self.object_names:
            raise ValueError("a token is learned on at least one object; give object_names")
        calibration = self.calibration
        calibration.check(self.models.backbone)
        if not calibration.hi < self.target_count <= calibration.max_count:
            raise ValueError(
                f"the number axis of {calibration.backbone} reaches counts from {calibration.hi + 1} to "
                f"{calibration.max_count}, as it was calibrated, got {self.target_count}"
            )
        self.targets = tuple(Target(name, self.target_count) for name in self.object_names)
        for target in self.targets:
            self.models.check((target,))
        first = self.offsets[self._first]
        state = load_checkpoint(self.checkpoint, self._identity) if self.checkpoint else None
        self.state = state or Checkpoint({"offset": torch.tensor([first])})

    @property
    def offsets(self) -> tuple[float, ...]:
        """The offsets of the line search, in order."""
        return tuple(float(offset) for offset in OFFSETS if offset <= self.calibration.hi)

    @property
    def token(self) -> CountToken:
        """The token with the best offset so far, or with the calibration's before the first validation."""
        return self._token(float(self.state.best["offset"]))

    @property
    def validations(self) -> list[Validation]:
        """All validations so far, including those before a resume."""
        return self.state.validations

    @property
    def best_validation(self) -> Validation:
        """The validation of the offset of `token`."""
        return self.state.best_validation

    @property
    def steps_made(self) -> int:
        """The number of validated offsets, including those before a resume."""
        return self.state.step

    def __iter__(self) -> Iterator[Validation]:
        while (offset := self._next()) is not None:
            token = self._token(offset)

            def render(template: str, target: Target, seeds: Sequence[int], token: CountToken = token) -> Tensor:
                objects = counted(target.object_name, target.target_count)
                prompt = template.format(number=token.placeholder_token, objects=objects)
                backbone = self.models.backbone
                return backbone.render(backbone.initial_latents(seeds), encode_prompt(backbone, prompt, token), seeds)

            found = validate(self.models.critics, self.targets, self.settings, render, self.state.step)
            self.state.step += 1
            self.state.evaluations += self.settings.validation_pictures
            self.state.record({"offset": torch.tensor([offset])}, found)
            if self.checkpoint:
                save_checkpoint(self.state, self.checkpoint, self._identity)
            yield found

    @property
    def _identity(self) -> str:
        """The identity of the run, which its checkpoint must have too."""
        critics = (critic.name for critic in self.models.critics)
        base, count = base_model(self.models.backbone), str(self.target_count)
        return "; ".join(("direction", base, count, *self.object_names, self.settings.config_hash, *critics))

    @property
    def _first(self) -> int:
        """The place of the first offset: the calibration's, or the nearest one of the search."""
        best = self.calibration.best_for(self.target_count).offset
        return min(range(len(self.offsets)), key=lambda place: abs(self.offsets[place] - best))

    def _next(self) -> float | None:
        """Return the next offset; None after one that was no better, and at the end of the offsets."""
        tried = self.validations
        if not tried:
            return self.offsets[self._first]
        if self.state.validations_since_best:
            return None
        place = self._first + (len(tried) if tried[0].count < self.target_count else -len(tried))
        return self.offsets[place] if 0 <= place < len(self.offsets) else None

    def _token(self, offset: float) -> CountToken:
        backbone = self.models.backbone
        return CountToken(
            placeholder_token=placeholder_of(self.target_count),
            target_count=self.target_count,
            vectors=self._vectors(self.calibration.hi),
            base_model=base_model(backbone),
            revision=backbone.preset.revision,
            object_names=tuple(self.object_names),
            critic=", ".join(critic.name for critic in self.models.critics),
            config_hash=self.settings.config_hash,
            accuracy=None,
            licence=self.licence,
            direction=replace(self._direction, offset=offset),
        )

    @cached_property
    @torch.no_grad()
    def _direction(self) -> NumberDirection:
        lo, hi = self.calibration.lo, self.calibration.hi
        return mean_direction(self._encoded(lo), self._encoded(hi), lo, hi)

    def _encoded(self, number: int) -> list[tuple[PromptEmbeds, Span]]:
        """Return the embeddings of each template and class with a number word, and the word's span."""
        placeholder, found = placeholder_of(number), []
        with injected(self.models.backbone, {placeholder: self._vectors(number)}) as encode:
            for template in self.settings.templates:
                for name in self.object_names:
                    prompt = template.format(number=placeholder, objects=counted(name, number))
                    (span,) = encode.spans(prompt, placeholder)
                    found.append((encode(prompt), span))
        return found

    def _vectors(self, number: int) -> dict[str, Tensor]:
        """Return the input vectors of a number word, as many in each encoder."""
        backbone, word = self.models.backbone, number_word(number)
        length = length_of(word, backbone)
        return {key: encoder.vectors_of(word, length, backbone) for key, encoder in encoders_of(backbone).items()}
