"""How many bytes an optimisation iteration needs, counted before it runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import Function
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from countgen.backbones.base import Backbone
from countgen.backbones.prompt_embeds import PromptEmbeds

GIB = 2**30
TEXT = "text_encoder"
PLENTY = 64 * 1024
"""Bytes for a pixel and a pass that no family needs (SDXL-Turbo: 17 000)."""
WORKSPACE = GIB
"""Left for the critic, the libraries' workspaces and what the allocator cannot use."""


@dataclass(frozen=True)
class Footprint:
    """Bytes of one batch's forward and backward pass.

    Attributes:
        weights: of the denoiser and the VAE, tiny decoder included.
        text_encoders: their weights, which need not be there while the latents move.
        kept: activations that the forward keeps for the backward.
        kept_low: the same with memory="low", at most: every block's input, and one block's activations.
    """

    weights: int
    text_encoders: int
    kept: int
    kept_low: int

    def total(self, memory: str) -> int:
        """All of it, for memory "fast" or "low"."""
        if memory == "low":
            return self.weights + self.kept_low
        return self.weights + self.text_encoders + self.kept


def footprint(backbone: Backbone, embeds: PromptEmbeds, batch_size: int = 1, *, draft: bool = False) -> Footprint:
    """Count on tensors without contents: nothing is computed, and no memory is used."""
    shadow = backbone.shadow()
    texts = [part for name, part in shadow.pipeline.components.items() if name.startswith(TEXT)]
    steps = shadow.num_inference_steps
    vae = shadow.tiny_vae if draft and shadow.tiny_vae is not None else shadow.pipeline.vae
    with FakeTensorMode(allow_non_fake_inputs=True), torch.enable_grad(), _FusedAttention():
        embeds = embeds.map(torch.empty_like).expand(batch_size)
        latents = torch.empty((batch_size, *shadow.latent_shape), device=shadow.device, requires_grad=True)
        timestep = torch.ones((), device=shadow.device)
        denoised = _Kept(shadow.denoiser).count(lambda: shadow.denoise(latents.to(shadow.dtype), timestep, embeds))
        decoded = _Kept(vae).count(lambda: shadow.decode(latents, draft=draft))
    return Footprint(
        weights=sum(_bytes_of(part) for part in (shadow.denoiser, shadow.pipeline.vae, shadow.tiny_vae)),
        text_encoders=sum(_bytes_of(part) for part in texts),
        kept=steps * denoised.total + decoded.total,
        kept_low=steps * denoised.inputs + decoded.inputs + max(denoised.largest, decoded.largest),
    )


def refuse_what_does_not_fit(need: Footprint, free: int, memory: str, held: int = 0) -> None:
    """Say what will not fit, and which option would.

    Args:
        need: of the run.
        free: bytes on the device.
        memory: "fast" or "low".
        held: of the need, bytes that are on the device already.

    Raises:
        ValueError: it does not fit.
    """
    if need.total(memory) - held + WORKSPACE <= free:
        return
    low = need.total("low") + WORKSPACE
    if memory == "fast" and low - held <= free:
        advice = f'memory="low" (--memory low) needs at most {low / GIB:.1f} GiB and does'
    else:
        advice = "a smaller height and width, fewer steps, a smaller batch, a draft decoder or another backbone may"
    raise ValueError(
        f"a step needs {(need.total(memory) + WORKSPACE) / GIB:.1f} GiB (weights {need.weights / GIB:.1f}, text "
        f"encoders {need.text_encoders / GIB:.1f}, activations {need.kept / GIB:.1f} or with low memory "
        f"{need.kept_low / GIB:.1f}), the device has {(free + held) / GIB:.1f} for it: that will not fit; {advice}"
    )


def free_memory(device: torch.device) -> int | None:
    """Bytes that a run may still take; None where the system, not the device, decides.

    What torch's allocator holds and does not use counts as free.
    """
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def check_weights(backbone: Backbone, free: int | None) -> None:
    """Before they are moved to the device.

    Raises:
        ValueError: the weights alone do not fit; it says what would.
    """
    weights = sum(_bytes_of(part) for part in backbone.resident())
    if free is None or weights + WORKSPACE <= free:
        return
    advice = "another backbone or dtype may"
    texts = sum(_bytes_of(part) for name, part in backbone.pipeline.components.items() if name.startswith(TEXT))
    if backbone.memory == "fast" and weights - texts + WORKSPACE <= free:
        advice = 'without the text encoders, as memory="low" (--memory low) keeps them, it does'
    raise ValueError(
        f"{backbone.name} has {weights / GIB:.1f} GiB of weights, of which {texts / GIB:.1f} are text encoders, and "
        f"the device has {free / GIB:.1f} free: that will not fit; {advice}"
    )


def check(backbone: Backbone, embeds: PromptEmbeds, batch_size: int, *, draft: bool = False) -> None:
    """Before the first gradient of a batch; counting takes seconds, and is left out where memory is plenty.

    Raises:
        ValueError: it will not fit; it says what would.
    """
    kind = (batch_size, backbone.height, backbone.width, backbone.num_inference_steps, backbone.guidance_scale, draft)
    if kind in backbone.fitting:
        return
    # A graph of another kind of batch would be replaced by this one's; until then it counts as taken.
    backbone.captures.release()
    free = free_memory(backbone.device)
    passes = backbone.num_inference_steps * (2 if backbone.guidance_scale > 1 else 1) + 1
    if free is not None and free <= passes * batch_size * backbone.height * backbone.width * PLENTY:
        need = footprint(backbone, embeds, batch_size, draft=draft)
        held = sum(_bytes_of(part) for part in backbone.resident())
        refuse_what_does_not_fit(need, free, backbone.memory, held)
    backbone.fitting.add(kind)


class _FusedAttention(TorchFunctionMode):
    """Attention that keeps what fused kernels keep; without contents torch would count whole score matrices."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, key, value = inspect.signature(_query_key_value).bind(*args, **(kwargs or {})).args[:3]
        return _Attention.apply(query, key, value)


def _query_key_value(query: Tensor, key: Tensor, value: Tensor, *rest: Any, **options: Any) -> None:
    """The arguments of attention that are kept."""


class _Attention(Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        attended = query.new_empty((*query.shape[:-1], value.shape[-1]))
        ctx.save_for_backward(query, key, value, attended)
        return attended


class _Kept:
    """Bytes that autograd keeps while a module runs, by its blocks."""

    def __init__(self, module: nn.Module) -> None:
        self._blocks = _blocks(module)
        self._by_block: dict[int, int] = {}
        self._current = -1
        self._seen: dict[int, Any] = {}
        self.inputs = 0

    @property
    def total(self) -> int:
        return sum(self._by_block.values())

    @property
    def largest(self) -> int:
        return max(self._by_block.values(), default=0)

    def count(self, call: Callable[[], object]) -> _Kept:
        handles = [
            block.register_forward_pre_hook(self._entering(index), with_kwargs=True)
            for index, block in enumerate(self._blocks)
        ]
        try:
            with saved_tensors_hooks(self._keep, lambda tensor: tensor):
                call()
        finally:
            for handle in handles:
                handle.remove()
        return self

    def _entering(self, index: int) -> Callable[..., None]:
        def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._current = index
            self.inputs += sum(_nbytes(value) for value in (*args, *kwargs.values()) if isinstance(value, Tensor))

        return enter

    def _keep(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        # Parameters are saved too, but are there anyway. Storages are held so that no address comes back.
        if not isinstance(tensor, nn.Parameter) and storage._cdata not in self._seen:
            self._seen[storage._cdata] = storage
            self._by_block[self._current] = self._by_block.get(self._current, 0) + _nbytes(tensor)
        return tensor


def _blocks(module: nn.Module) -> Sequence[nn.Module]:
    """The large parts that are recomputed one after the other."""
    return [
        block
        for part in (module, *(child for name, child in module.named_children() if name == "decoder"))
        for child in part.children()
        if isinstance(child, nn.ModuleList)
        for block in child
    ]


def _nbytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _bytes_of(part: Any) -> int:
    return sum(map(_nbytes, part.parameters())) if isinstance(part, nn.Module) else 0
