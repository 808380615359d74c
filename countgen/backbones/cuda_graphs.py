"""A function of tensors, with its gradient, as two CUDA graphs that are replayed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import cache

import torch
from torch import Tensor

WARM_UPS = 2
"""Eager passes before a capture: lazy initialisation and the choice of kernels cannot be captured."""


class CapturedFunction:
    """Replays a function, and its backward where it was captured with gradient, without launching kernels one by one.

    Args:
        function: tensors in, a tuple of tensors out. Everything else it reads is frozen at the capture; it must
            not wait for the GPU, nor copy from the CPU.
        inputs: examples on the GPU, whose shapes, dtypes and `requires_grad` every later call has.
        with_gradient: capture the backward too.

    Raises:
        RuntimeError: the function did something that a graph cannot hold (from torch), or there is no GPU.
    """

    def __init__(
        self, function: Callable[..., tuple[Tensor, ...]], inputs: Sequence[Tensor], *, with_gradient: bool
    ) -> None:
        if not inputs[0].is_cuda:
            raise RuntimeError(f"a CUDA graph needs its inputs on a GPU, these are on {inputs[0].device}")
        self._inputs = tuple(tensor.detach().clone().requires_grad_(tensor.requires_grad) for tensor in inputs)
        moved = [tensor for tensor in self._inputs if tensor.requires_grad]
        self._backward_graph: torch.cuda.CUDAGraph | None = None
        self._gradients: tuple[Tensor, ...] = ()
        self._input_gradients: tuple[Tensor, ...] = ()
        device = inputs[0].get_device()
        stream = _side_stream(device)
        caller = torch.cuda.current_stream(device)
        stream.wait_stream(caller)
        # Around the captures too: one that fails leaves its stream current, and this puts the caller's back.
        with torch.cuda.stream(stream), torch.set_grad_enabled(with_gradient):
            _warm_up(function, self._inputs, moved)
            # Its own pool: what the forward keeps for the backward is safe from every other graph.
            pool = torch.cuda.graph_pool_handle()
            self._forward_graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._forward_graph, pool=pool, stream=stream):
                outputs = function(*self._inputs)
            if with_gradient:
                live = [tensor for tensor in outputs if tensor.requires_grad]
                self._gradients = tuple(torch.ones_like(tensor) for tensor in live)
                self._backward_graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(self._backward_graph, pool=pool, stream=stream):
                    self._input_gradients = torch.autograd.grad(live, moved, grad_outputs=self._gradients)
        caller.wait_stream(stream)
        self.outputs = tuple(tensor.detach() for tensor in outputs)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs, detached; the next call overwrites them."""
        for static, given in zip(self._inputs, inputs, strict=True):
            if static.data_ptr() != given.data_ptr():
                static.detach().copy_(given.detach())
        self._forward_graph.replay()
        return self.outputs

    def backward(self, *gradients: Tensor) -> tuple[Tensor, ...]:
        """Gradients of the inputs that require them, for the last `forward`; the next call overwrites them.

        Args:
            *gradients: one per output with gradient; none for an output that is a loss, whose gradient is one.
        """
        assert self._backward_graph is not None
        if gradients:
            for static, given in zip(self._gradients, gradients, strict=True):
                static.copy_(given)
        self._backward_graph.replay()
        return self._input_gradients


def root_cause(error: BaseException) -> str:
    """The first line of what went wrong first: a failed capture ends in an error that says only that it failed."""
    while error.__context__ is not None:
        error = error.__context__
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}"


class NotCapturedError(RuntimeError):
    """A capture failed, now or earlier; the message says why."""


class CUDAGraphs:
    """CUDA graphs by kind: one of each, since each keeps gigabytes of activations."""

    def __init__(self) -> None:
        self._refused: dict[tuple[str, Hashable], str] = {}
        self._kept: dict[str, tuple[Hashable, CapturedFunction]] = {}

    def __bool__(self) -> bool:
        """Whether any graph is held."""
        return bool(self._kept)

    def get(self, kind: str, key: Hashable, capture: Callable[[], CapturedFunction]) -> CapturedFunction:
        """The graph of this kind, captured anew unless it was captured for the same key.

        Raises:
            NotCapturedError: it cannot be captured. What failed is not tried again: for any key, unless it was the
                memory that did not do, which it may for another.
        """
        refused = self._refused.get((kind, None)) or self._refused.get((kind, key))
        if refused is not None:
            raise NotCapturedError(refused)
        if kind not in self._kept or self._kept[kind][0] != key:
            self._kept.pop(kind, None)
            try:
                self._kept[kind] = (key, capture())
            except RuntimeError as error:
                reason = root_cause(error)
                self._refused[kind, key if _out_of_memory(error) else None] = reason
                raise NotCapturedError(reason) from error
        return self._kept[kind][1]

    def release(self) -> None:
        """Free every graph."""
        self._kept.clear()

    def clear(self) -> None:
        """Free every graph, and forget what was refused."""
        self.release()
        self._refused.clear()


def _out_of_memory(error: BaseException) -> bool:
    """Whether that is where it began: a failed capture ends in another error."""
    chain = [error]
    while chain[-1].__context__ is not None:
        chain.append(chain[-1].__context__)
    return any(isinstance(one, torch.OutOfMemoryError) for one in chain)


@cache
def _side_stream(device: int) -> torch.cuda.Stream:
    """The one that all captures of a GPU share: libraries give every stream a workspace, and never take it back."""
    return torch.cuda.Stream(device)


def _warm_up(function: Callable[..., tuple[Tensor, ...]], inputs: Sequence[Tensor], moved: Sequence[Tensor]) -> None:
    for _ in range(WARM_UPS):
        live = [tensor for tensor in function(*inputs) if tensor.requires_grad]
        if live:
            torch.autograd.grad(live, moved, grad_outputs=[torch.ones_like(tensor) for tensor in live])
