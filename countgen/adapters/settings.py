"""Settings of the training of a noise adapter."""

from __future__ import annotations

from dataclasses import dataclass

from countgen.learning.settings import TEMPLATES, TrainingSettings


@dataclass(frozen=True)
class AdapterSettings(TrainingSettings):
    """Settings of the training of a noise adapter; `TrainingSettings` describes those that tokens have too.

    Attributes:
        max_seconds: the training also ends, and the learning rate has fallen, after so many seconds; None for no limit.
            With it the result depends on the speed of the machine.
        displacement_weight: weight of half the squared distance between moved and original latents.
        max_grad_norm: the gradient of all weights is scaled down to this norm.
        weight_decay: of AdamW.
        warmup_steps: steps in which the learning rate rises linearly; afterwards it falls linearly to the end.
        final_rate: smallest fraction of the learning rate at the end.
        channels: of the network's hidden layers, a multiple of 8.
        reads_prompt: condition the network on the prompt too; otherwise it moves the same noise alike for all classes.
        sees_sample: let the network read what the unmoved latents are denoised to, at one more evaluation for an image.
        bfloat16: compute the steps under autocast to bfloat16; validations stay in the model's dtype.
    """

    templates: tuple[str, ...] = (*TEMPLATES, "{number} {objects}")
    objects_per_step: int = 2
    seeds_per_object: int = 4
    num_optimization_steps: int = 3000
    learning_rate: float = 0.0004
    loss: str = "margin"
    validate_every: int = 100
    validation_pictures: int = 120
    patience: int = 10
    max_seconds: float | None = None
    displacement_weight: float = 0.002
    max_grad_norm: float = 1.0
    weight_decay: float = 1e-4
    warmup_steps: int = 100
    final_rate: float = 0.1
    channels: int = 32
    reads_prompt: bool = True
    sees_sample: bool = False
    bfloat16: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise ValueError(f"max_seconds must be above 0, got {self.max_seconds}")
        if not min(self.max_grad_norm, self.warmup_steps) > 0:
            raise ValueError("max_grad_norm and warmup_steps must be above 0")
        if not (min(self.displacement_weight, self.weight_decay) >= 0 and 0 <= self.final_rate <= 1):
            raise ValueError("displacement_weight and weight_decay must be at least 0, final_rate from 0 to 1")
