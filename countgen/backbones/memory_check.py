"""Refuse what will not fit into the device's memory, before any image is generated, and say what would."""

from __future__ import annotations

import torch

from countgen.backbones.base import Backbone
from countgen.backbones.memory_estimate import Footprint, text_encoders, weights_of
from countgen.errors import DoesNotFitError

GIB = 2**30
WORKSPACE = GIB
"""Left for the libraries' workspaces, the detectors' weights and what the allocator cannot use."""


def refuse_what_does_not_fit(need: Footprint, free: int, memory: str, held: int = 0) -> None:
    """Say what will not fit, and which option would.

    Args:
        need: of the run.
        free: bytes on the device.
        memory: "fast" or "low".
        held: of the need, bytes that are on the device already.

    Raises:
        DoesNotFitError: it does not.
    """
    if need.total(memory) - held + WORKSPACE <= free:
        return
    low = need.total("low") + WORKSPACE
    if memory == "fast" and low - held <= free:
        advice = f'memory="low" (--memory low) needs at most {low / GIB:.1f} GiB and does'
    else:
        advice = "a smaller height and width, fewer steps, a smaller batch, a draft decoder or another backbone may"
    raise DoesNotFitError(
        f"a step needs {(need.total(memory) + WORKSPACE) / GIB:.1f} GiB (weights {need.weights / GIB:.1f}, text "
        f"encoders {need.text_encoders / GIB:.1f}, activations {need.kept / GIB:.1f} or with low memory "
        f"{need.kept_low / GIB:.1f}, the critics' {need.asking / GIB:.1f} or with low memory "
        f"{need.asking_low / GIB:.1f}), the device has {(free + held) / GIB:.1f} for it: that will not fit; {advice}"
    )


def free_memory(device: torch.device, *, graphs: bool = False) -> int | None:
    """Bytes that a run may still take; None where the system, not the device, decides.

    What torch's allocator holds and does not use counts as free, unless there are graphs: most of what it then seems
    not to use is theirs.
    """
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    if graphs:
        return int(free)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def check_weights(backbone: Backbone, free: int | None) -> None:
    """Before they are moved to the device.

    Raises:
        DoesNotFitError: the weights alone do not; it says what would.
    """
    weights = weights_of(*backbone.resident())
    if free is None or weights + WORKSPACE <= free:
        return
    advice = "another backbone or dtype may"
    texts = weights_of(*text_encoders(backbone))
    if backbone.memory == "fast" and weights - texts + WORKSPACE <= free:
        advice = 'without the text encoders, as memory="low" (--memory low) keeps them, it does'
    raise DoesNotFitError(
        f"{backbone.name} has {weights / GIB:.1f} GiB of weights, of which {texts / GIB:.1f} are text encoders, and "
        f"the device has {free / GIB:.1f} free: that will not fit; {advice}"
    )


def drawn_at_once(need: Footprint, free: int, memory: str, held: int = 0) -> int:
    """How many pictures fit, at least one.

    Args:
        need: of one picture.
        free, memory, held: as `refuse_what_does_not_fit` takes them.

    Raises:
        DoesNotFitError: not even one does.
    """
    texts = 0 if memory == "low" else need.text_encoders
    left = free + held - WORKSPACE - need.weights - texts
    if left >= need.drawn:
        return left // need.drawn
    advice = "a smaller height and width or another backbone may"
    if memory == "fast" and left + texts >= need.drawn:
        advice = 'memory="low" (--memory low), which keeps the text encoders off it, does'
    raise DoesNotFitError(
        f"drawing one picture needs {(need.weights + texts + need.drawn + WORKSPACE) / GIB:.1f} GiB, the device has "
        f"{(free + held) / GIB:.1f} for it: that will not fit; {advice}"
    )
