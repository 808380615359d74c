"""How many bytes an optimisation iteration needs, counted before it runs."""

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
"""Tensors of the widest size that a pass without gradient holds at once: a block's input, two within, its output."""


@dataclass(frozen=True)
class Footprint:
    """Bytes of one batch's forward and backward pass.

    Attributes:
        weights: of the denoiser and the VAE, tiny decoder included.
        text_encoders: their weights, which need not be there while the latents move.
        kept: activations that the forward keeps for the backward.
        kept_low: the same with memory="low", at most: every block's input, and one block's activations.
        drawn: activations of a pass without gradient, about: every block's input, and a few of the widest tensors.
        asking: activations that the critics' forward keeps for the backward.
        asking_low: the same with memory="low", which asks about one picture at a time.
    """

    weights: int
    text_encoders: int
    kept: int
    kept_low: int
    drawn: int
    asking: int = 0
    asking_low: int = 0

    def total(self, memory: str) -> int:
        """All of it, for memory "fast" or "low"."""
        if memory == "low":
            return self.weights + self.kept_low + self.asking_low
        return self.weights + self.text_encoders + self.kept + self.asking


def footprint(backbone: Backbone, embeds: PromptEmbeds, batch_size: int = 1, *, draft: bool = False) -> Footprint:
    """Count on tensors without contents: nothing is computed, and no memory is used.

    A backbone that saves memory is counted as if it did not: what checkpointing recomputes shows to nobody.
    """
    shadow = backbone.shadow()
    steps = shadow.num_inference_steps
    vae = shadow.tiny_vae if draft and shadow.tiny_vae is not None else shadow.pipeline.vae
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with fake, torch.enable_grad(), _FusedAttention(), _saving_nothing(shadow.denoiser, vae):
        embeds = embeds.map(torch.empty_like).expand(batch_size)
        latents = torch.empty((batch_size, *shadow.latent_shape), device=shadow.device, requires_grad=True)
        timestep = torch.ones((), device=shadow.device)
        denoised = _Kept(shadow.denoiser).count(lambda: shadow.denoise(latents.to(shadow.dtype), timestep, embeds))
        decoded = _Kept(vae).count(lambda: shadow.decode(latents, draft=draft))
    return Footprint(
        weights=weights_of(shadow.denoiser, shadow.pipeline.vae, shadow.tiny_vae),
        text_encoders=weights_of(*text_encoders(shadow)),
        kept=steps * denoised.total + decoded.total,
        kept_low=steps * denoised.inputs + decoded.inputs + max(denoised.largest, decoded.largest),
        drawn=max(part.inputs + ALIVE * part.widest for part in (denoised, decoded)),
    )


def kept_by(call: Callable[[], object]) -> int:
    """Bytes that autograd would keep for the backward of a call, which runs without keeping them."""
    return _Kept(nn.Identity()).count(call).total


@contextmanager
def _saving_nothing(*modules: nn.Module) -> Iterator[None]:
    """Gradient checkpointing and slicing off, and on again where they were on."""
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
        # Weak references, so that nothing is kept and yet no address comes back.
        storage = StorageWeakRef(tensor.untyped_storage())
        # Parameters are saved too, a linear layer's as a transposed view, but are there anyway.
        weight = isinstance(tensor, nn.Parameter) or isinstance(tensor._base, nn.Parameter)
        if not weight and storage.cdata not in self._seen:
            self._seen[storage.cdata] = storage
            self._by_block[self._current] = self._by_block.get(self._current, 0) + _nbytes(tensor)
            self.widest = max(self.widest, _nbytes(tensor))


def _blocks(module: nn.Module) -> Sequence[nn.Module]:
    """The large parts that are recomputed one after the other."""
    return [
        block
        for part in (module, *(child for name, child in module.named_children() if name == "decoder"))
        for child in part.children()
        if isinstance(child, nn.ModuleList)
        for block in child
    ]


def text_encoders(backbone: Backbone) -> list[Any]:
    """Those of the pipeline."""
    return [part for name, part in backbone.pipeline.components.items() if name.startswith("text_encoder")]


def weights_of(*parts: Any) -> int:
    """Bytes of the parameters of modules; what is no module, or is not there, has none."""
    return sum(_nbytes(parameter) for part in parts if isinstance(part, nn.Module) for parameter in part.parameters())


def _nbytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
