"""Metrics for training loops that log with torchmetrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from countgen.accuracy import SUMS, is_right, means, sums
from countgen.critics import NO_ANSWER
from countgen.prompts import MAX_TARGET_COUNT

try:
    from torchmetrics import Metric
except ImportError as error:
    raise ImportError("countgen.metrics needs torchmetrics: pip install 'countgen[metrics]'") from error


class CountAccuracy(Metric):
    """Accuracy and errors of counts against the target counts of prompts, as `countgen eval` reports them.

    `compute` returns scalars: `accuracy` (every count of an image is right), `off_by_one`, `partial`, `mae`, `rmse` and
    `bias`, see `countgen.accuracy`, and the accuracy at each total target count, such as `accuracy_5`. All states are
    sums, so that they hold across processes. Counts are whole numbers, so nothing here carries gradient.

    Args:
        options: of `torchmetrics.Metric`.

    >>> metric = CountAccuracy()
    >>> metric.update([5, 6, 3], [5, 5, 3])
    >>> {name: round(value.item(), 2) for name, value in metric.compute().items() if name[:3] in ("acc", "mae")}
    {'accuracy': 0.67, 'mae': 0.33, 'accuracy_3': 1.0, 'accuracy_5': 0.5}
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    images_by_count: Tensor
    right_by_count: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in SUMS:
            self.add_state(name, torch.zeros(()), dist_reduce_fx="sum")
        for name in ("images_by_count", "right_by_count"):
            self.add_state(name, torch.zeros(MAX_TARGET_COUNT + 1, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, counts: Tensor | Sequence[Any], targets: Tensor | Sequence[Any]) -> None:
        """Add images.

        Args:
            counts: integers (B,), or (B, K) for K object classes, such as `Critic.counts` returns; sequences may have
                another K for each image. `NO_ANSWER` makes an image wrong, without an error in objects.
            targets: the target counts, of the same shape, at least 0.

        Raises:
            ValueError: other shapes or values, such as soft counts, which have to be rounded.
        """
        given, wanted = _rows(counts), _rows(targets)
        if list(map(len, given)) != list(map(len, wanted)):
            raise ValueError(f"counts and targets must have the same shape, got {_shape(given)} and {_shape(wanted)}")
        if min((min(row) for row in wanted), default=0) < 0 or max(map(sum, wanted), default=0) > MAX_TARGET_COUNT:
            raise ValueError(f"target counts must be at least 0, and at most {MAX_TARGET_COUNT} in an image")
        images = [(None if NO_ANSWER in row else row, target) for row, target in zip(given, wanted, strict=True)]
        for name, value in sums(images).items():
            setattr(self, name, getattr(self, name) + value)
        for row, target in images:
            self.images_by_count[sum(target)] += 1
            self.right_by_count[sum(target)] += is_right(row, target)

    def compute(self) -> dict[str, Tensor]:
        """Return the metrics by name, float32 scalars; NaN without images."""
        values = means({name: float(getattr(self, name)) for name in SUMS})
        by_count = zip(self.right_by_count.tolist(), self.images_by_count.tolist(), strict=True)
        values |= {f"accuracy_{count}": right / images for count, (right, images) in enumerate(by_count) if images}
        return {name: torch.tensor(value, device=self.device) for name, value in values.items()}


def _rows(values: Tensor | Sequence[Any]) -> list[list[int]]:
    """Return the integers of each image."""
    listed = values.tolist() if isinstance(values, Tensor) else list(values)
    rows = [list(row) if isinstance(row, Sequence) else [row] for row in listed]
    if any(type(value) is not int or value < NO_ANSWER for row in rows for value in row) or not all(rows):
        raise ValueError(f"expected whole numbers for every image, such as [5, 3], got {str(listed)[:80]}")
    return rows


def _shape(rows: list[list[int]]) -> str:
    return f"{len(rows)} images of {sorted(set(map(len, rows)))} object classes"
