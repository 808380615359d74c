"""Checkpoints of a training run, from which a killed run resumes with the same result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from countgen.errors import CheckpointError
from countgen.files.writing import write_atomically

_MOMENTS = ("exp_avg", "exp_avg_sq")
_NUMBERS = ("stage", "distillation_steps", "step", "validations_since_best", "evaluations", "seconds")
"""The checkpoint's attributes that are neither tensors nor validations."""


@dataclass(frozen=True)
class Validation:
    """Metrics of the parameters on images of seeds that are not trained on.

    Attributes:
        step: number of steps on the count loss before the validation.
        accuracy: fraction of right counts, over images and critics.
        loss: mean count loss.
        count: mean hard count; the soft count is lower if candidates lie near the threshold.
    """

    step: int
    accuracy: float
    loss: float
    count: float

    @property
    def rank(self) -> tuple[float, float]:
        """The sort key by which validations are compared, higher is better; the loss decides at equal accuracy."""
        return self.accuracy, -self.loss


@dataclass
class Checkpoint:
    """The state of a training run.

    Attributes:
        parameters: current vectors of the token, float32 (V, D) by text encoder.
        best: those of the best validation; the initial ones before the first.
        moments: Adam's moments by their name in torch and the parameter's; empty before the first step of a stage.
        stage: the stage to run next: "word" (validate the initial parameters), "imitate" (a token's distillation),
            "walk" (its line search) or "learn" (steps on the count loss).
        distillation_steps: completed steps of the distillation.
        step: completed steps on the count loss.
        validations_since_best: number of validations since the best one.
        evaluations: number of evaluations used.
        seconds: spent on the training, those before a resume included.
        validations: all validations, in order.
    """

    parameters: dict[str, Tensor]
    best: dict[str, Tensor] = field(default_factory=dict)
    moments: dict[str, Tensor] = field(default_factory=dict)
    stage: str = "word"
    distillation_steps: int = 0
    step: int = 0
    validations_since_best: int = 0
    evaluations: int = 0
    seconds: float = 0.0
    validations: list[Validation] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.best = self.best or dict(self.parameters)

    def update(self, parameters: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
        """Copy the current parameters, and their moments from the optimizer."""
        self.parameters = {key: value.detach().clone() for key, value in parameters.items()}
        for key, value in parameters.items():
            for name in _MOMENTS:
                if value in optimizer.state:
                    self.moments[f"{name}.{key}"] = optimizer.state[value][name].clone()

    def restore(self, parameters: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, steps: int) -> None:
        """Restore the state of an optimizer of these parameters after a number of steps."""
        for key, value in parameters.items():
            moments = {
                name: self.moments[f"{name}.{key}"].clone() for name in _MOMENTS if f"{name}.{key}" in self.moments
            }
            if moments:
                optimizer.state[value] = {"step": torch.tensor(float(steps)), **moments}

    @property
    def best_validation(self) -> Validation:
        """The best validation so far.

        Raises:
            ValueError: nothing has been validated yet.
        """
        return max(self.validations, key=lambda validation: validation.rank)

    def record(self, parameters: Mapping[str, Tensor], validation: Validation) -> bool:
        """Record the validation of parameters, keep these if it is the best so far, and return whether it is."""
        better = not self.validations or validation.rank > self.best_validation.rank
        self.validations.append(validation)
        if better:
            self.best = dict(parameters)
        self.validations_since_best = 0 if better else self.validations_since_best + 1
        return better


def save_checkpoint(state: Checkpoint, path: Path, identity: str) -> None:
    """Write a checkpoint atomically.

    Args:
        state: state of the training run.
        path: file of the checkpoint, replaced if it exists.
        identity: identity of the training run; only a run of the same identity can resume from the checkpoint.
    """
    from safetensors.torch import save

    tensors = {
        **{f"vectors.{key}": value for key, value in state.parameters.items()},
        **{f"best.{key}": value for key, value in state.best.items()},
        **{f"moments.{key}": value for key, value in state.moments.items()},
    }
    numbers = {name: getattr(state, name) for name in _NUMBERS}
    numbers["validations"] = [asdict(validation) for validation in state.validations]
    # Copies, because safetensors refuses tensors that share memory, as `parameters` and `best` may.
    data = save(
        {key: value.detach().cpu().clone() for key, value in tensors.items()},
        {"identity": identity, "numbers": json.dumps(numbers)},
    )
    write_atomically(data, path)


def load_checkpoint(path: Path, identity: str) -> Checkpoint | None:
    """Read the state from a checkpoint, or return None if there is no such file.

    Raises:
        CheckpointError: the checkpoint is damaged, or belongs to another training run.
    """
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    groups: dict[str, dict[str, Tensor]] = {"vectors": {}, "best": {}, "moments": {}}
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            for name in file.keys():  # noqa: SIM118  # the file is not a dictionary
                group, _, key = name.partition(".")
                groups[group][key] = file.get_tensor(name)
        numbers = json.loads(metadata["numbers"])
        validations = [Validation(**fields) for fields in numbers["validations"]]
        saved = Checkpoint(groups["vectors"], groups["best"], groups["moments"], validations=validations)
        for name in _NUMBERS:
            setattr(saved, name, numbers[name])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"the checkpoint {path} is damaged: {error}; delete it to start again") from error
    if metadata.get("identity") != identity:
        raise CheckpointError(
            f"the checkpoint {path} belongs to another training run ({metadata.get('identity')}), this one is "
            f"{identity}; delete it, or give another file"
        )
    return saved
