"""The state of a training run, and what its validations say."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Validation:
    """Metrics of vectors on images of seeds that are not trained on.

    Attributes:
        step: number of steps on the count loss before the validation.
        accuracy: fraction of right counts, over images and critics.
        loss: mean count loss.
    """

    step: int
    accuracy: float
    loss: float


@dataclass
class State:
    """The state of a training run.

    Attributes:
        vectors: current vectors of the token, float32 (V, D) by text encoder.
        best: those of the best validation; the initial ones before the first.
        distillation_steps: completed steps of the distillation.
        step: completed steps on the count loss.
        evaluations: number of evaluations used.
        validations_since_best: number of validations since the best one.
        validations: all validations, in order.
    """

    vectors: dict[str, Tensor]
    best: dict[str, Tensor] = field(default_factory=dict)
    distillation_steps: int = 0
    step: int = 0
    evaluations: int = 0
    validations_since_best: int = 0
    validations: list[Validation] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.best = self.best or self.vectors

    @property
    def best_validation(self) -> Validation:
        """The best validation so far; the loss decides at equal accuracy. A ValueError before the first one."""
        return max(self.validations, key=lambda validation: (validation.accuracy, -validation.loss))

    def record(self, validation: Validation) -> None:
        """Record the validation of the current vectors, and keep them if it is the best so far."""
        self.validations.append(validation)
        self.validations_since_best += 1
        if self.best_validation is validation:
            self.best, self.validations_since_best = self.vectors, 0
