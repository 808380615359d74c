"""How a count token is learned."""

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
    """How a token is learned; what the shipped ones were learned with is in `benchmarks.tokens`.

    Attributes:
        num_vectors: how many words long the token is, in every text encoder.
        initial_text: whose embedding it starts from, its last vector repeated; the number as a word by default.
        teacher: a template, of prompts that may count better than those of `templates`; None for none. The token
            first learns to draw their pictures, and keeps that where it validates better.
        teacher_steps, teacher_rate: of Adam, for that.
        initial_step: of a walk from there along the line through the number words; 0 for none.
        initial_tries: points that it looks at, on the way to where the counts are right, while they validate better.
        templates: of prompts, with {number} and {objects}; drawn at random.
        encoders: that learn, those of `countgen.tokens.file.ENCODER_KEYS` that the backbone has; the others keep the
            vectors of the initial text.
        objects_per_step, seeds_per_object: of each step, drawn at random; all new each time.
        num_optimization_steps, learning_rate: of AdamW, without decay, from there on; 0 steps for none. A step moves
            every number by about the rate; those of a word are near 0.02.
        loss: a name in `critics.losses.LOSSES`.
        semantic_weight: of 1 - how recognisable the object is.
        validate_every: steps.
        validation_pictures: of seeds that are never learned on, the same each time.
        patience: validations without a better one before it ends.
        seed: of the draws.
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
            raise ValueError(f"encoders are of {', '.join(ENCODER_KEYS)}; got {', '.join(self.encoders) or 'none'}")
        names = ("objects_per_step", "seeds_per_object", "validate_every", "patience")
        if min(getattr(self, name) for name in (*names, "validation_pictures")) < 1 or not self.templates:
            raise ValueError(f"{', '.join(names)} and validation_pictures must be at least 1; templates not empty")
        if not (min(self.learning_rate, self.teacher_rate) > 0 and self.semantic_weight >= 0):
            raise ValueError("learning_rate and teacher_rate must be above 0, semantic_weight at least 0")
        if min(self.num_optimization_steps, self.teacher_steps, self.initial_tries, self.initial_step) < 0:
            raise ValueError("steps, initial_tries and initial_step must be at least 0")

    @property
    def config_hash(self) -> str:
        """Of every setting."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]
