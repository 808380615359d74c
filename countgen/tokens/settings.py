"""Settings of token training."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from countgen.tokens.file import ENCODER_KEYS, MAX_VECTORS
from critics.losses import LOSSES

TEMPLATES = (
    "a photo of {number} {objects}",
    "a picture of {number} {objects}",
    "an image of {number} {objects}",
)


@dataclass(frozen=True)
class LearnSettings:
    """Settings of token training; those of the shipped tokens are in `benchmarks.studies.tokens`.

    Attributes:
        num_vectors: number of vectors of the token in every text encoder.
        initial_text: text whose embedding is the initial value, its last vector repeated; the number as a word by
            default.
        teacher: template of prompts that may count better than those of `templates`, None for no distillation. The
            token is first distilled from these prompts; the result is kept if it validates better.
        teacher_steps, teacher_rate: number of steps and learning rate of Adam in the distillation.
        initial_step: step size of the line search that follows, relative to the difference between the embeddings of
            the neighbouring number word and of the own one; 0 for no line search.
        initial_tries: largest number of points of the line search, which ends at the first that validates no better.
        templates: templates of training prompts, with {number} and {objects}; sampled at random.
        encoders: text encoders whose vectors are trained, from `countgen.tokens.file.ENCODER_KEYS`; the others keep the
            vectors of the initial text.
        objects_per_step, seeds_per_object: batch of each step on the count loss, sampled at random.
        num_optimization_steps, learning_rate: steps on the count loss, with AdamW without weight decay; 0 steps for
            none. A step changes every component by about the learning rate; those of a word are near 0.02.
        loss: a name in `critics.losses.LOSSES`.
        semantic_weight: weight of the semantic loss, 1 - the probability of the object.
        validate_every: number of steps between validations.
        validation_pictures: number of validation images, of fixed seeds that are not trained on.
        patience: number of validations without improvement after which training stops.
        seed: seed of all random choices.
    """

    num_vectors: int = 1
    initial_text: str | None = None
    teacher: str | None = "{number} {objects}"
    teacher_steps: int = 25
    teacher_rate: float = 0.005
    initial_step: float = 0.25
    initial_tries: int = 3
    templates: tuple[str, ...] = TEMPLATES
    encoders: tuple[str, ...] = ENCODER_KEYS
    objects_per_step: int = 8
    seeds_per_object: int = 2
    num_optimization_steps: int = 60
    learning_rate: float = 0.0005
    loss: str = "l1"
    semantic_weight: float = 0.5
    validate_every: int = 10
    validation_pictures: int = 48
    patience: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.num_vectors <= MAX_VECTORS:
            raise ValueError(f"num_vectors must be from 1 to {MAX_VECTORS}, got {self.num_vectors}")
        if self.loss not in LOSSES:
            raise ValueError(f"unknown loss {self.loss!r}; available: {', '.join(LOSSES)}")
        for template in (*self.templates, *([self.teacher] if self.teacher is not None else [])):
            if "{number}" not in template or "{objects}" not in template:
                raise ValueError(f"a template needs {{number}} and {{objects}}, got {template!r}")
        unknown = [key for key in self.encoders if key not in ENCODER_KEYS]
        if unknown or not self.encoders:
            raise ValueError(f"encoders must be of {', '.join(ENCODER_KEYS)}; got {', '.join(self.encoders) or 'none'}")
        names = ("objects_per_step", "seeds_per_object", "validate_every", "patience")
        if min(getattr(self, name) for name in (*names, "validation_pictures")) < 1 or not self.templates:
            raise ValueError(f"{', '.join(names)} and validation_pictures must be at least 1; templates not empty")
        if not (min(self.learning_rate, self.teacher_rate) > 0 and self.semantic_weight >= 0):
            raise ValueError("learning_rate and teacher_rate must be above 0, semantic_weight at least 0")
        if min(self.num_optimization_steps, self.teacher_steps, self.initial_tries, self.initial_step) < 0:
            raise ValueError("steps, initial_tries and initial_step must be at least 0")

    @property
    def config_hash(self) -> str:
        """A hash of all settings, 16 hexadecimal digits."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]
