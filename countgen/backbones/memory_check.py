"""Memory check: whether a run fits into the device's memory, before any image is generated."""

from __future__ import annotations

import torch

from countgen.backbones.base import Backbone
from countgen.backbones.memory_estimate import MemoryEstimate, text_encoders, weights_of
from countgen.errors import DoesNotFitError

GIB = 2**30
WORKSPACE = GIB
"""Bytes reserved for the libraries' workspaces, the detectors' weights and the allocator's fragmentation."""


def check_memory(need: MemoryEstimate, free: int, memory: str, held: int = 0) -> None:
    """Check that an optimisation step fits into the device's memory.

    Args:
        need: memory estimate of the step.
        free: free bytes on the device.
        memory: "fast" or "low".
        held: bytes of the estimate that are already on the device.

    Raises:
        DoesNotFitError: it does not fit; the message says which option would.
    """
    if need.total(memory) - held + WORKSPACE <= free:
        return
    low = need.total("low") + WORKSPACE
    if memory == "fast" and low - held <= free:
        advice = f'memory="low" (--memory low) needs at most {low / GIB:.1f} GiB and fits'
    else:
        advice = "try a smaller height and width, fewer steps, a smaller batch, a draft decoder or another backbone"
    raise DoesNotFitError(
        f"a step needs {(need.total(memory) + WORKSPACE) / GIB:.1f} GiB (weights {need.weights / GIB:.1f}, text "
        f"encoders {need.text_encoders / GIB:.1f}, activations {need.kept / GIB:.1f} or with low memory "
        f"{need.kept_low / GIB:.1f}, the critics' {need.critics / GIB:.1f} or with low memory "
        f"{need.critics_low / GIB:.1f}), the device has {(free + held) / GIB:.1f} for it: that will not fit; {advice}"
    )


def free_memory(device: torch.device, *, graphs: bool = False) -> int | None:
    """Return the bytes that a run can still allocate, or None for a device without memory of its own.

    Memory that torch's allocator has reserved but does not use counts as free, except with CUDA graphs, which own most
    of it.
    """
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    if graphs:
        return int(free)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def check_weights(backbone: Backbone, free: int | None) -> None:
    """Check that the weights fit into the device's memory, before they are moved there.

    Raises:
        DoesNotFitError: they do not fit; the message says which option would.
    """
    weights = weights_of(*backbone.resident())
    if free is None or weights + WORKSPACE <= free:
        return
    advice = "try another backbone or dtype"
    texts = weights_of(*text_encoders(backbone))
    if backbone.memory == "fast" and weights - texts + WORKSPACE <= free:
        advice = 'memory="low" (--memory low), which keeps the text encoders on the CPU, fits'
    raise DoesNotFitError(
        f"{backbone.name} has {weights / GIB:.1f} GiB of weights, of which {texts / GIB:.1f} are text encoders, and "
        f"the device has {free / GIB:.1f} free: that will not fit; {advice}"
    )


def largest_batch(need: MemoryEstimate, free: int, memory: str, held: int = 0) -> int:
    """Return how many images can be generated together without gradient, at least one.

    Args:
        need: memory estimate of one image.
        free, memory, held: as for `check_memory`.

    Raises:
        DoesNotFitError: not even one image fits.
    """
    texts = 0 if memory == "low" else need.text_encoders
    left = free + held - WORKSPACE - need.weights - texts
    if left >= need.rendered:
        return left // need.rendered
    advice = "try a smaller height and width or another backbone"
    if memory == "fast" and left + texts >= need.rendered:
        advice = 'memory="low" (--memory low), which keeps the text encoders on the CPU, fits'
    raise DoesNotFitError(
        f"generating one image needs {(need.weights + texts + need.rendered + WORKSPACE) / GIB:.1f} GiB, the device "
        f"has {(free + held) / GIB:.1f} for it: that will not fit; {advice}"
    )
