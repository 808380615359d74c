"""Refuse, before anything is drawn, what will not fit into the device's memory, and say what would."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from countgen.backbones.base import Backbone
from countgen.backbones.memory_estimate import Footprint, footprint, kept_by, text_encoders, weights_of
from countgen.backbones.prompt_embeds import PromptEmbeds
from countgen.errors import DoesNotFitError

if TYPE_CHECKING:
    from countgen.methods.forward_backward import Question

GIB = 2**30
PLENTY = 48 * 1024
"""Bytes for a pixel and a pass that no family needs, nor a critic on three views: FLUX, which needs most, 20 600 in
bfloat16 and twice that in float32, SDXL-Turbo 7 900, YOLO11x 14 000 (docs/memory.md, kept by pixels and passes)."""
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


def check(
    backbone: Backbone, embeds: PromptEmbeds, batch_size: int, question: Question, *, draft: bool = False
) -> None:
    """Before the first gradient of a batch; counting takes seconds, and is left out where memory is plenty.

    Raises:
        DoesNotFitError: it will not; it says what would.
    """
    # What is counted, and how many, changes nothing.
    kind = (*_kind(backbone, batch_size, draft), question.critics, question.views)
    if kind in backbone.fitting:
        return
    # A graph of another kind of batch would be replaced by this one's; until then it counts as taken.
    backbone.captures.release()
    free = free_memory(backbone.device)
    if free is not None and not _plenty(backbone, batch_size, free, question):
        one = kept_by_critics(backbone, question)
        need = _counted(backbone, embeds, batch_size, draft=draft)
        need = replace(need, asking=batch_size * one, asking_low=one)
        refuse_what_does_not_fit(need, free, backbone.memory, _held(backbone))
    backbone.fitting.add(kind)


def kept_by_critics(backbone: Backbone, question: Question) -> int:
    """Bytes that the critics keep for the backward of one look at one picture: they look once, keeping nothing."""
    picture = torch.zeros(1, 3, backbone.height, backbone.width, device=backbone.device).requires_grad_(True)
    return kept_by(lambda: question.ask(picture))


def pictures_at_once(backbone: Backbone, embeds: PromptEmbeds, wanted: int) -> int:
    """How many pictures of a batch can be drawn together, without gradient; the rest come after them.

    Raises:
        DoesNotFitError: not even one; it says what would.
    """
    free = free_memory(backbone.device, graphs=bool(backbone.captures))
    if free is None or _plenty(backbone, wanted, free):
        return wanted
    need = _counted(backbone, embeds, 1, draft=False)
    try:
        return min(wanted, drawn_at_once(need, free, backbone.memory, _held(backbone)))
    except DoesNotFitError:
        # What an earlier refinement captured may stand in the way.
        backbone.captures.release()
        free = free_memory(backbone.device) or 0
        return min(wanted, drawn_at_once(need, free, backbone.memory, _held(backbone)))


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


def _plenty(backbone: Backbone, batch_size: int, free: int, question: Question | None = None) -> bool:
    """So much is free that nothing need be counted, which takes seconds."""
    passes = backbone.num_inference_steps * (2 if backbone.guidance_scale > 1 else 1) + 1
    pixels = passes * backbone.height * backbone.width
    for critic in question.critics if question else ():
        pixels += max(backbone.height * backbone.width, (getattr(critic, "image_size", None) or 0) ** 2)
    return free > pixels * batch_size * PLENTY


def _held(backbone: Backbone) -> int:
    return weights_of(*backbone.resident())


def _counted(backbone: Backbone, embeds: PromptEmbeds, batch_size: int, *, draft: bool) -> Footprint:
    """The footprint, counted once for each kind of batch."""
    kind = _kind(backbone, batch_size, draft)
    if kind not in backbone.footprints:
        backbone.footprints[kind] = footprint(backbone, embeds, batch_size, draft=draft)
    return backbone.footprints[kind]


def _kind(backbone: Backbone, batch_size: int, draft: bool) -> tuple[Any, ...]:
    return batch_size, backbone.height, backbone.width, backbone.num_inference_steps, backbone.guidance_scale, draft
