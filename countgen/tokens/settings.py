"""Settings of token training, and the seeds that it samples."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from countgen.critics.losses import LOSSES
from countgen.methods.settings import Settings, setting
from countgen.tokens.file import MAX_VECTORS

FIRST_SEED = 2**31
"""The first seed of training; validation and trial have lower seeds, and users usually give far lower ones."""
FIRST_VALIDATION_SEED = 2**30
FIRST_TRIAL_SEED = 3 * 2**29

TEMPLATES = (
    "a photo of {number} {objects}",
    "a picture of {number} {objects}",
    "an image of {number} {objects}",
)


@dataclass(frozen=True)
class LearnSettings(Settings):
    """Settings of token training.

    A step on the count loss changes every component of a vector by about the learning rate; those of a word are near
    0.02. The shipped tokens have one template, 4 objects per step, 64 validation images and no steps on the count loss.

    Attributes:
        templates: templates of prompts, with {number} and {objects}; sampled at random.
    """

    templates: tuple[str, ...] = TEMPLATES
    num_vectors: int = setting(
        0,
        "embedding vectors of the token in every text encoder; 0 for as many as the number word has",
        at_least=0,
        at_most=MAX_VECTORS,
    )
    distillation_steps: int = setting(25, "steps of the distillation; 0 for the count loss only", at_least=0)
    distillation_rate: float = setting(0.005, "learning rate of the distillation, which falls linearly to 0", above=0)
    num_optimization_steps: int = setting(
        60, "largest number of steps on the count loss; 0 for the distillation only", at_least=0
    )
    learning_rate: float = setting(0.0005, "learning rate on the count loss; a high one makes the token worse", above=0)
    loss: str = setting("l1", "count loss, as for methods; a density counter has its own", choices=tuple(LOSSES))
    semantic_weight: float = setting(
        0.5, "weight of the loss that keeps the object recognisable; 0 for none", at_least=0
    )
    objects_per_step: int = setting(8, "object classes per step, sampled from all", at_least=1)
    seeds_per_object: int = setting(
        2, "images per object class in a step on the count loss; more reduce noise and are slower", at_least=1
    )
    validate_every: int = setting(10, "steps on the count loss between validations", at_least=1)
    validation_images: int = setting(
        48, "images of each validation, spread over the objects; fewer are faster and choose worse", at_least=1
    )
    patience: int = setting(3, "validations without improvement after which training ends", at_least=1)
    seed: int = setting(0, "seed of all random choices", at_least=0, at_most=2**32 - 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        for template in self.templates:
            if "{number}" not in template or "{objects}" not in template:
                raise ValueError(f"a template needs {{number}} and {{objects}}, got {template!r}")
        if not self.templates:
            raise ValueError("training needs at least one template of prompts; templates is empty")

    @property
    def config_hash(self) -> str:
        """A hash of all settings, 16 hexadecimal digits."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]
