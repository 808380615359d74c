"""The checkpoint of a training run, from which an interrupted run resumes with the same result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from countgen.errors import CheckpointError
from countgen.files.printable import printable
from countgen.files.schema import Whole, decoded, encoded
from countgen.files.writing import write_atomically


@dataclass(frozen=True)
class Validation:
    """Metrics of vectors on images of seeds that are not trained on.

    Attributes:
        step: number of steps on the count loss before the validation.
        accuracy: fraction of right counts, over images and critics.
        loss: mean count loss.
    """

    step: Whole
    accuracy: float
    loss: float


@dataclass(kw_only=True)
class Progress:
    """The state of a training run without its tensors.

    Attributes:
        distilled: whether the distillation is finished.
        distillation_steps: completed steps of the distillation.
        step: completed steps on the count loss.
        evaluations: number of evaluations used.
        validations_since_best: number of validations since the best one.
        validations: all validations, in order.
    """

    distilled: bool = False
    distillation_steps: Whole = 0
    step: Whole = 0
    evaluations: Whole = 0
    validations_since_best: Whole = 0
    validations: list[Validation] = field(default_factory=list)

    @property
    def best_validation(self) -> Validation:
        """The best validation so far; the loss decides at equal accuracy. A ValueError before the first one."""
        return max(self.validations, key=lambda validation: (validation.accuracy, -validation.loss))


_GROUPS = ("vectors", "best", "moments")


@dataclass(kw_only=True)
class Checkpoint(Progress):
    """The state of a training run.

    Attributes:
        vectors: current vectors of the token, float32 (V, D) by text encoder.
        best: those of the best validation; the initial ones before the first.
        moments: the optimizer's state as "exp_avg.clip_l"; empty before the first step of a phase.
    """

    vectors: dict[str, Tensor]
    best: dict[str, Tensor] = field(default_factory=dict)
    moments: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.best = self.best or self.vectors

    def update(self, vectors: Mapping[str, Tensor], optimizer: Optimizer) -> None:
        """Copy the vectors after a step, and their moments from the optimizer."""
        self.vectors = {key: vector.detach().clone() for key, vector in vectors.items()}
        self.moments = {
            f"{name}.{key}": moment.clone()
            for key, vector in vectors.items()
            for name, moment in optimizer.state[vector].items()
        }

    def restore(self, vectors: Mapping[str, Tensor], optimizer: Optimizer) -> None:
        """Give an optimizer of these vectors the saved moments."""
        for name, moment in self.moments.items():
            moment_name, _, key = name.partition(".")
            optimizer.state[vectors[key]][moment_name] = moment.clone()

    def record(self, validation: Validation) -> None:
        """Record the validation of the current vectors, and keep them if it is the best so far."""
        self.validations.append(validation)
        self.validations_since_best += 1
        if self.best_validation is validation:
            self.best, self.validations_since_best = self.vectors, 0


def save_checkpoint(state: Checkpoint, path: Path, identity: str) -> None:
    """Write a checkpoint atomically; only a training run of the same identity can resume from it."""
    from safetensors.torch import save

    # Copies, because safetensors does not accept tensors that share memory, as `vectors` and `best` may.
    tensors = {f"{group}.{key}": tensor.clone() for group in _GROUPS for key, tensor in getattr(state, group).items()}
    progress = encoded({attribute.name: getattr(state, attribute.name) for attribute in fields(Progress)}).decode()
    write_atomically(save(tensors, {"identity": identity, "progress": progress}), path)


def load_checkpoint(path: Path, identity: str) -> Checkpoint | None:
    """Read the state from a checkpoint, or return None if there is no such file.

    Raises:
        CheckpointError: the checkpoint is damaged, or belongs to another training run.
    """
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    groups: dict[str, Any] = {group: {} for group in _GROUPS}
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            for name in file.keys():  # noqa: SIM118  # the file is not a dictionary
                group, _, key = name.partition(".")
                groups[group][key] = file.get_tensor(name)
        saved_identity, progress = metadata["identity"], decoded(metadata["progress"], Progress)
    except (SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"the checkpoint {path} is damaged: {printable(error, 200)}; delete it to start again"
        ) from error
    if saved_identity != identity:
        raise CheckpointError(
            f"the checkpoint {path} belongs to another training run ({printable(saved_identity, 500)}), this one is "
            f"{identity}; delete it, or give another file"
        )
    return Checkpoint(**groups, **vars(progress))
