"""Seconds, bytes and FLOPs of a piece of work."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

GIB = 2**30


@dataclass(frozen=True)
class Measured:
    """What repeated calls took.

    Attributes:
        seconds: median of one call, all GPU work included.
        allocated, reserved: peak bytes of tensors, and of what the allocator held, weights included; 0 on a CPU.
    """

    seconds: float
    allocated: int
    reserved: int


def measure(call: Callable[[], object], device: torch.device, repeats: int, warm_ups: int = 2) -> Measured:
    """Time a call; the peaks count its warm-up too."""
    for _ in range(warm_ups):
        call()
    wait(device)
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        wait(device)
        seconds.append(time.perf_counter() - started)
    if device.type != "cuda":
        return Measured(median(seconds), 0, 0)
    return Measured(median(seconds), torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved())


def wait(device: torch.device) -> None:
    """Until the GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forget(device: torch.device) -> None:
    """Give memory back, and start new peaks."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of one large square matrix product, the fastest thing the device does."""
    side = 8192 if device.type == "cuda" else 512
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / measure(lambda: left @ right, device, 20, warm_ups=5).seconds


def count_flops(call: Callable[[], object]) -> int:
    """Return the floating-point operations of matrix products, convolutions and attention, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()
