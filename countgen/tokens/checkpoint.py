"""Where a token's learning stands, kept on disk so that a killed run goes on as if nothing had happened."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from countgen.atomic_write import write_whole
from countgen.errors import TokenFileError

_MOMENTS = ("exp_avg", "exp_avg_sq")
_NUMBERS = ("stage", "taught", "step", "waited", "evaluations")


@dataclass(frozen=True)
class Validation:
    """What the vectors are worth on pictures that are never learned on.

    Attributes:
        step: after how many.
        accuracy: share of right counts, over pictures and critics.
        loss: the count loss, averaged.
        count: the hard count, averaged; the soft one is lower where candidates lie near the threshold.
    """

    step: int
    accuracy: float
    loss: float
    count: float

    @property
    def rank(self) -> tuple[float, float]:
        """The higher, the better; the loss decides between equal accuracies."""
        return self.accuracy, -self.loss


@dataclass
class Checkpoint:
    """The state of a learning.

    Attributes:
        vectors: as they are now, float32 (V, D) by text encoder.
        best: those of the best validation; the initial ones at first.
        moments: Adam's, by its own name for them and the encoder; empty before the first step of a stage.
        stage: what comes next: "word", "imitate" and "walk" choose where to start, then comes "learn".
        taught: steps made by imitating.
        step: steps made on the count.
        waited: validations since the best one.
        evaluations: spent.
        validations: all so far.
    """

    vectors: dict[str, Tensor]
    best: dict[str, Tensor] = field(default_factory=dict)
    moments: dict[str, Tensor] = field(default_factory=dict)
    stage: str = "word"
    taught: int = 0
    step: int = 0
    waited: int = 0
    evaluations: int = 0
    validations: list[Validation] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.best = self.best or dict(self.vectors)

    def keep(self, vectors: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
        """Take over where an optimizer has come to."""
        self.vectors = {key: value.detach().clone() for key, value in vectors.items()}
        for key, value in vectors.items():
            for name in _MOMENTS:
                if value in optimizer.state:
                    self.moments[f"{name}.{key}"] = optimizer.state[value][name].clone()

    def restore(self, vectors: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, steps: int) -> None:
        """Give an optimizer of these vectors its memory of as many steps back."""
        for key, value in vectors.items():
            moments = {
                name: self.moments[f"{name}.{key}"].clone() for name in _MOMENTS if f"{name}.{key}" in self.moments
            }
            if moments:
                optimizer.state[value] = {"step": torch.tensor(float(steps)), **moments}

    @property
    def best_validation(self) -> Validation:
        """Of the vectors that are the best so far.

        Raises:
            ValueError: nothing has been validated yet.
        """
        return max(self.validations, key=lambda found: found.rank)

    def judge(self, vectors: Mapping[str, Tensor], found: Validation) -> bool:
        """Keep vectors as the best if they are, and remember what they were worth."""
        better = not self.validations or found.rank > self.best_validation.rank
        self.validations.append(found)
        if better:
            self.best = dict(vectors)
        self.waited = 0 if better else self.waited + 1
        return better


def save_checkpoint(state: Checkpoint, path: Path, identity: str) -> None:
    """Write a checkpoint whole or not at all.

    Args:
        state: where the learning stands.
        path: replaced where it is there.
        identity: of the learning, which alone can go on from here.
    """
    from safetensors.torch import save

    tensors = {
        **{f"vectors.{key}": value for key, value in state.vectors.items()},
        **{f"best.{key}": value for key, value in state.best.items()},
        **{f"moments.{key}": value for key, value in state.moments.items()},
    }
    numbers = {name: getattr(state, name) for name in _NUMBERS}
    numbers["validations"] = [asdict(found) for found in state.validations]
    # Copies: safetensors refuses tensors that share memory, as now and best may.
    data = save(
        {key: value.detach().cpu().clone() for key, value in tensors.items()},
        {"identity": identity, "numbers": json.dumps(numbers)},
    )
    write_whole(data, path)


def load_checkpoint(path: Path, identity: str) -> Checkpoint | None:
    """The state in a checkpoint; None where there is none yet.

    Raises:
        TokenFileError: it is damaged, or of another learning.
    """
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    groups: dict[str, dict[str, Tensor]] = {"vectors": {}, "best": {}, "moments": {}}
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            for name in file.keys():  # noqa: SIM118  # the file is no dictionary
                group, _, key = name.partition(".")
                groups[group][key] = file.get_tensor(name)
        numbers = json.loads(metadata["numbers"])
        validations = [Validation(**found) for found in numbers["validations"]]
        saved = Checkpoint(groups["vectors"], groups["best"], groups["moments"], validations=validations)
        for name in _NUMBERS:
            setattr(saved, name, numbers[name])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise TokenFileError(f"the checkpoint {path} is damaged: {error}; delete it to begin anew") from error
    if metadata.get("identity") != identity:
        raise TokenFileError(
            f"the checkpoint {path} is of another learning ({metadata.get('identity')}), this one is {identity}; "
            "delete it, or give another file"
        )
    return saved
