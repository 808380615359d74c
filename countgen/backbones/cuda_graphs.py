"""CUDA graphs of a function of tensors: one for its forward and one for its backward pass."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import cache

import torch
from torch import Tensor

WARM_UPS = 2
"""Number of eager passes before a capture: lazy initialisation and the choice of kernels cannot be captured."""


class CapturedFunction:
    """A function captured in CUDA graphs, whose replay launches all kernels at once.

    Args:
        function: takes tensors and returns a tuple of tensors. Everything else that it reads is frozen at the capture;
            it must not wait for the GPU, nor copy from the CPU.
        inputs: examples on the GPU, with the shapes, dtypes and `requires_grad` of every later call.
        with_gradient: capture the backward pass too.

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
        # The block includes the captures: a failed one leaves its stream current, and the block restores the caller's.
        with torch.cuda.stream(stream), torch.set_grad_enabled(with_gradient):
            _warm_up(function, self._inputs, moved)
            # A pool of its own, so that no other graph overwrites the activations between forward and backward.
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
        """Replay the forward pass and return its outputs, detached; the next call overwrites them."""
        for static, given in zip(self._inputs, inputs, strict=True):
            if static.data_ptr() != given.data_ptr():
                static.detach().copy_(given.detach())
        self._forward_graph.replay()
        return self.outputs

    def backward(self, *gradients: Tensor) -> tuple[Tensor, ...]:
        """Return the last `forward`'s gradients of the inputs that require them; the next call overwrites them.

        Args:
            *gradients: one per output with gradient; leave them out for a single loss, whose gradient is one.
        """
        assert self._backward_graph is not None
        if gradients:
            for static, given in zip(self._gradients, gradients, strict=True):
                static.copy_(given)
        self._backward_graph.replay()
        return self._input_gradients


def root_cause(error: BaseException) -> str:
    """Return the first line of the innermost error; the outer ones say only that the capture failed."""
    while error.__context__ is not None:
        error = error.__context__
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}"


class NotCapturedError(RuntimeError):
    """Raised when a capture failed, now or earlier; the message says why."""


class CUDAGraphs:
    """A cache of CUDA graphs that holds one graph per kind, because each keeps gigabytes of activations."""

    def __init__(self) -> None:
        self._refused: dict[tuple[str, Hashable], str] = {}
        self._kept: dict[str, tuple[Hashable, CapturedFunction]] = {}

    def __bool__(self) -> bool:
        """Return whether any graph is held."""
        return bool(self._kept)

    def get(self, kind: str, key: Hashable, capture: Callable[[], CapturedFunction]) -> CapturedFunction:
        """Return the graph of this kind, captured anew unless it was captured for the same key.

        Raises:
            NotCapturedError: the capture failed, now or earlier. A capture that ran out of memory is not tried again
                for the same key, any other failed capture for no key of the kind.
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
        """Free every graph and forget the failed captures."""
        self.release()
        self._refused.clear()


def _out_of_memory(error: BaseException) -> bool:
    """Return whether the error was caused by too little memory, which a failed capture reports as another error."""
    chain = [error]
    while chain[-1].__context__ is not None:
        chain.append(chain[-1].__context__)
    return any(isinstance(one, torch.OutOfMemoryError) for one in chain)


@cache
def _side_stream(device: int) -> torch.cuda.Stream:
    """Return the stream that all captures of a GPU share, because libraries never free a stream's workspace."""
    return torch.cuda.Stream(device)


def _warm_up(function: Callable[..., tuple[Tensor, ...]], inputs: Sequence[Tensor], moved: Sequence[Tensor]) -> None:
    for _ in range(WARM_UPS):
        live = [tensor for tensor in function(*inputs) if tensor.requires_grad]
        if live:
            torch.autograd.grad(live, moved, grad_outputs=[torch.ones_like(tensor) for tensor in live])
