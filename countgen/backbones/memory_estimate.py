"""Memory estimate of an optimisation step, computed before the step runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import Function
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from countgen.backbones.base import Backbone
from countgen.backbones.prompt_embeds import PromptEmbeds

ALIVE = 4
"""Number of tensors of the largest size held at once by a pass without gradient: a block's input, two inside the
block, and its output."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that the forward and backward pass of one batch needs.

    Attributes:
        weights: weights of the denoiser and the VAE, tiny decoder included.
        text_encoders: weights of the text encoders, which are not needed once the prompt is encoded.
        kept: activations that the forward pass keeps for the backward pass.
        kept_low: upper bound of the same with memory="low": every block's input, and one block's activations.
        rendered: approximate activations of a pass without gradient: every block's input, and `ALIVE` tensors of the
            largest size.
        critics: activations that the critics' forward pass keeps for the backward pass.
        critics_low: the same with memory="low", where critics evaluate one image at a time.
    """

    weights: int
    text_encoders: int
    kept: int
    kept_low: int
    rendered: int
    critics: int = 0
    critics_low: int = 0

    def total(self, memory: str) -> int:
        """Return the sum of what a step with gradient needs, for memory "fast" or "low"."""
        if memory == "low":
            return self.weights + self.kept_low + self.critics_low
        return self.weights + self.text_encoders + self.kept + self.critics


def estimate_memory(
    backbone: Backbone, embeds: PromptEmbeds, batch_size: int = 1, *, draft: bool = False
) -> MemoryEstimate:
    """Estimate the memory of one batch on fake tensors: nothing is computed, and no memory is allocated.

    Gradient checkpointing and slicing are switched off meanwhile, because they hide the activations that are kept.
    """
    backbone = backbone.uncached_copy()
    steps = backbone.num_inference_steps
    vae = backbone.tiny_vae if draft and backbone.tiny_vae is not None else backbone.pipeline.vae
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with fake, torch.enable_grad(), _FusedAttention(), _without_memory_saving(backbone.denoiser, vae):
        embeds = embeds.map(torch.empty_like).expand(batch_size)
        latents = torch.empty((batch_size, *backbone.latent_shape), device=backbone.device, requires_grad=True)
        timestep = torch.ones((), device=backbone.device)
        denoised = _Kept(backbone.denoiser).count(
            lambda: backbone.denoise(latents.to(backbone.dtype), timestep, embeds)
        )
        decoded = _Kept(vae).count(lambda: backbone.decode(latents, draft=draft))
    return MemoryEstimate(
        weights=weights_of(backbone.denoiser, backbone.pipeline.vae, backbone.tiny_vae),
        text_encoders=weights_of(*text_encoders(backbone)),
        kept=steps * denoised.total + decoded.total,
        kept_low=steps * denoised.inputs + decoded.inputs + max(denoised.largest, decoded.largest),
        rendered=max(part.inputs + ALIVE * part.widest for part in (denoised, decoded)),
    )


def kept_by(call: Callable[[], object]) -> int:
    """Return the bytes that autograd would keep for the backward pass of a call; the call runs without keeping them."""
    return _Kept(nn.Identity()).count(call).total


@contextmanager
def _without_memory_saving(*modules: nn.Module) -> Iterator[None]:
    """Switch gradient checkpointing and slicing off, and afterwards on again for the modules that had them on."""
    saving = [
        (part, switch)
        for module in modules
        for part in module.modules()
        for switch in ("gradient_checkpointing", "use_slicing")
        if getattr(part, switch, False)
    ]
    for part, switch in saving:
        setattr(part, switch, False)
    try:
        yield
    finally:
        for part, switch in saving:
            setattr(part, switch, True)


class _FusedAttention(TorchFunctionMode):
    """Replacement of attention that keeps only what fused kernels keep, since fake tensors use no fused kernel."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, key, value = inspect.signature(_query_key_value).bind(*args, **(kwargs or {})).args[:3]
        return _Attention.apply(query, key, value)


def _query_key_value(query: Tensor, key: Tensor, value: Tensor, *rest: Any, **options: Any) -> None:
    """The signature of attention; its first three arguments are kept."""


class _Attention(Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        attended = query.new_empty((*query.shape[:-1], value.shape[-1]))
        ctx.save_for_backward(query, key, value, attended)
        return attended


class _Kept:
    """Bytes that autograd keeps during a call, by blocks of a module."""

    def __init__(self, module: nn.Module) -> None:
        self._blocks = _blocks(module)
        self._by_block: dict[int, int] = {}
        self._current = -1
        self._seen: dict[int, StorageWeakRef] = {}
        self.inputs = 0
        self.widest = 0

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
            with torch.enable_grad(), saved_tensors_hooks(self._keep, lambda nothing: nothing):
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

    def _keep(self, tensor: Tensor) -> None:
        # Weak references free the memory, and yet prevent that an address is used again and mistaken for the same.
        storage = StorageWeakRef(tensor.untyped_storage())
        # Parameters are saved too (a linear layer's as a transposed view), but take no additional memory.
        weight = isinstance(tensor, nn.Parameter) or isinstance(tensor._base, nn.Parameter)
        if not weight and storage.cdata not in self._seen:
            self._seen[storage.cdata] = storage
            # A view keeps the whole tensor that it is a part of.
            whole = tensor.untyped_storage().nbytes()
            self._by_block[self._current] = self._by_block.get(self._current, 0) + whole
            self.widest = max(self.widest, whole)


def _blocks(module: nn.Module) -> Sequence[nn.Module]:
    """Return the blocks that gradient checkpointing recomputes one after the other."""
    return [
        block
        for part in (module, *(child for name, child in module.named_children() if name == "decoder"))
        for child in part.children()
        if isinstance(child, nn.ModuleList)
        for block in child
    ]


def text_encoders(backbone: Backbone) -> list[Any]:
    """Return the text encoders of the pipeline."""
    return [part for name, part in backbone.pipeline.components.items() if name.startswith("text_encoder")]


def weights_of(*parts: Any) -> int:
    """Return the bytes of the parameters of modules; anything that is not a module counts as 0."""
    return sum(_nbytes(parameter) for part in parts if isinstance(part, nn.Module) for parameter in part.parameters())


def _nbytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
