"""CUDA graphs of functions of tensors; whatever cannot be captured runs eagerly."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from typing import cast

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

TensorFunction = Callable[..., tuple[Tensor, ...]]


class CUDAGraphs:
    """A cache of one captured function per kind, because each holds gigabytes of activations."""

    def __init__(self) -> None:
        self._captured: dict[str, tuple[Hashable, TensorFunction]] = {}
        self._failed: set[str] = set()

    def capture(self, kind: str, key: Hashable, function: TensorFunction, inputs: Sequence[Tensor]) -> TensorFunction:
        """Return a function that replays its forward and backward pass as CUDA graphs, captured anew for a new key.

        If a capture fails, every function of its kind is returned as it is, and the log says why.

        Args:
            kind: of the function.
            key: equal for functions that differ in nothing but their inputs.
            function: takes tensors and returns a tuple of tensors. Everything else that it reads is frozen at the
                capture; it must not wait for the GPU, nor copy from the CPU.
            inputs: examples on the GPU, with the shapes, dtypes and `requires_grad` of every later call.

        Returns:
            A function whose outputs and gradients are overwritten by its next call.
        """
        if kind in self._failed:
            return function
        if kind not in self._captured or self._captured[kind][0] != key:
            self._captured.pop(kind, None)
            try:
                self._captured[kind] = key, _captured(function, inputs)
            except Exception as error:  # Whatever a driver or a library raises, the function itself still works.
                self._failed.add(kind)
                self.release()
                logger.warning("%s runs without CUDA graphs: the capture failed: %s", kind, _root_cause(error))
                return function
        return self._captured[kind][1]

    def release(self) -> None:
        """Free every graph."""
        self._captured.clear()


def _captured(function: TensorFunction, inputs: Sequence[Tensor]) -> TensorFunction:
    device = inputs[0].device
    # Copies, because expanded tensors cannot be written to, and replays read their inputs from these.
    examples = tuple(tensor.detach().clone().requires_grad_(tensor.requires_grad) for tensor in inputs)
    # A failed capture leaves its stream current; the end of the block restores the caller's.
    with torch.cuda.device(device), torch.cuda.stream(torch.cuda.current_stream(device)), torch.enable_grad():
        return cast(TensorFunction, torch.cuda.make_graphed_callables(function, examples))


def _root_cause(error: BaseException) -> str:
    """Return the first line of the innermost error; the outer ones say only that the capture failed."""
    while error.__context__ is not None:
        error = error.__context__
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}"
