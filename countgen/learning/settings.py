"""Settings that every training run has, and the seeds that it may use."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from countgen.critics.losses import LOSSES

FIRST_SEED = 2**31
"""The first seed of training; validation has lower seeds, and users usually give far lower ones."""
FIRST_VALIDATION_SEED = 2**30
"""The first seed of validation."""
FIRST_TRIAL_SEED = 3 * 2**29
"""The first seed of the trial at the end, above the seeds of validation and below those of training."""

TEMPLATES = (
    "a photo of {number} {objects}",
    "a picture of {number} {objects}",
    "an image of {number} {objects}",
)


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of a training run; the defaults are those of count tokens.

    Attributes:
        templates: templates of training prompts, with {number} and {objects}; sampled at random.
        objects_per_step, seeds_per_object: batch of each step on the count loss, sampled at random.
        num_optimization_steps, learning_rate: steps on the count loss, with AdamW.
        loss: a name in `countgen.critics.losses.LOSSES`.
        validate_every: number of steps between validations.
        validation_images: number of validation images, of fixed seeds that are not trained on, spread over object
            classes and counts; with fewer images than these, the last ones are not validated.
        patience: number of validations without improvement after which training stops.
        seed: seed of all random choices.
    """

    templates: tuple[str, ...] = TEMPLATES
    objects_per_step: int = 8
    seeds_per_object: int = 2
    num_optimization_steps: int = 60
    learning_rate: float = 0.0005
    loss: str = "l1"
    validate_every: int = 10
    validation_images: int = 48
    patience: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(f"unknown loss {self.loss!r}; available: {', '.join(LOSSES)}")
        for template in self.templates:
            check_template(template)
        names = ("objects_per_step", "seeds_per_object", "validate_every", "patience")
        if min(getattr(self, name) for name in (*names, "validation_images")) < 1 or not self.templates:
            raise ValueError(f"{', '.join(names)} and validation_images must be at least 1; templates not empty")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")
        if self.num_optimization_steps < 0:
            raise ValueError(f"num_optimization_steps must be at least 0, got {self.num_optimization_steps}")

    @property
    def config_hash(self) -> str:
        """A hash of all settings, 16 hexadecimal digits."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


def check_template(template: str) -> None:
    """Refuse a template of prompts without {number} or {objects}."""
    if "{number}" not in template or "{objects}" not in template:
        raise ValueError(f"a template needs {{number}} and {{objects}}, got {template!r}")
