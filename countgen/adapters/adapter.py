"""A noise adapter: it moves the initial latents of a prompt so that its images have the right count more often."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import torch
from torch import Tensor

from countgen.adapters.network import ARCHITECTURE, AdapterNetwork, NetworkConfig
from countgen.backbones import Backbone, PromptEmbeds
from countgen.backbones.loading import public_name
from countgen.backbones.registry import base_model
from countgen.errors import AdapterFileError
from countgen.learning.tensor_file import bytes_of
from countgen.prompts import Target


@dataclass(frozen=True)
class NoiseAdapter:
    """A trained network that moves initial latents, and how it was trained.

    Attributes:
        config: latent shape and range of counts among others.
        weights: of `AdapterNetwork(config)`, float16 by name; computed with in float32.
        base_model: preset that it was trained on; PRESET:REPOSITORY for another checkpoint.
        revision: pinned revision of the base model, or None.
        object_names: names of the object classes that it was trained on, at least one.
        critic: names of the critics that it was trained with.
        config_hash: hash of the training settings.
        accuracy, plain_accuracy: fraction of right counts with and without it, on seeds that it was not trained on, by
            a judge that was not used in training; None if not measured.
        licence: licence of the weights.

    Raises:
        ValueError: weights that do not fit the config or are not finite, object names are missing, or an accuracy is
            outside [0, 1].
    """

    config: NetworkConfig
    weights: dict[str, Tensor]
    base_model: str
    revision: str | None
    object_names: tuple[str, ...]
    critic: str
    config_hash: str
    accuracy: float | None
    plain_accuracy: float | None
    licence: str

    def __post_init__(self) -> None:
        expected = {name: value.shape for name, value in built(self.config, "meta").state_dict().items()}
        if {name: value.shape for name, value in self.weights.items()} != expected:
            raise ValueError(f"the weights do not fit a network of {self.config}")
        for name, value in self.weights.items():
            if value.dtype != torch.float16 or not torch.isfinite(value).all():
                raise ValueError(f"{name} must be finite float16 numbers")
        if not self.object_names:
            raise ValueError("an adapter is trained on at least one object class; its object_names are empty")
        for accuracy in (self.accuracy, self.plain_accuracy):
            if accuracy is not None and not 0 <= accuracy <= 1:
                raise ValueError(f"accuracy must be a fraction from 0 to 1, got {accuracy}")

    @property
    def sha256(self) -> str:
        """The SHA-256 of the weights and the config, which recipes record."""
        digest = hashlib.sha256(f"{ARCHITECTURE} {json.dumps(asdict(self.config), sort_keys=True)}".encode())
        for name in sorted(self.weights):
            digest.update(name.encode())
            digest.update(bytes_of(self.weights[name]))
        return digest.hexdigest()

    @cached_property
    def network(self) -> AdapterNetwork:
        """The network with these weights, frozen."""
        network = built(self.config, "meta")
        network.load_state_dict({name: value.float() for name, value in self.weights.items()}, assign=True)
        return network.eval().requires_grad_(False)

    @property
    def cost(self) -> int:
        """The evaluations that moving one latent costs, 0 or 1."""
        return int(self.config.sees_sample)

    @torch.no_grad()
    def move(
        self,
        backbone: Backbone,
        latents: Tensor,
        targets: Sequence[Target],
        embeds: PromptEmbeds,
        seeds: Sequence[int],
    ) -> Tensor:
        """Return the latents moved for a prompt, each with the norm that it had.

        Args:
            backbone: that the latents are for.
            latents: float32 (B, C, h, w), as `Backbone.initial_latents` returns them.
            targets: of the prompt.
            embeds: of the prompt, batch of 1.
            seeds: of the latents, as `Backbone.render` takes them.

        Raises:
            AdapterFileError: as `check_latents`, or the weights give latents that are not finite.
            ValueError: as `check_targets`.
        """
        self.check_targets(targets)
        self.check_latents(tuple(latents.shape[1:]))
        inputs = network_inputs(self.config, backbone, latents, targets[0].target_count, embeds, seeds)
        result = moved(latents, self.network.to(latents.device)(*inputs))
        if not torch.isfinite(result).all():
            raise AdapterFileError(
                "the adapter moves latents to values that are not finite; leave it out, or train it again"
            )
        return result

    def accepts(self, targets: Sequence[Target]) -> bool:
        """Return whether it was trained for the targets of a prompt."""
        smallest, largest = self.config.counts
        return len(targets) == 1 and smallest <= targets[0].target_count <= largest

    def check_targets(self, targets: Sequence[Target]) -> None:
        """Refuse prompts that it was not trained for.

        Raises:
            ValueError: several object classes, or a count outside the range that it was trained on.
        """
        smallest, largest = self.config.counts
        if len(targets) != 1:
            raise ValueError(
                f"a noise adapter is trained on prompts of one object class, this prompt has {len(targets)}; leave the "
                "adapter out"
            )
        if not self.accepts(targets):
            raise ValueError(
                f"the adapter is trained on counts from {smallest} to {largest}, got {targets[0].target_count}; leave "
                "it out, or train one on this count"
            )

    def check_latents(self, shape: tuple[int, ...]) -> None:
        """Refuse latents of another shape than it was trained on.

        Raises:
            AdapterFileError: another shape.
        """
        if shape != self.config.latent_shape:
            raise AdapterFileError(
                f"the adapter is trained on latents of the shape {self.config.latent_shape} (channels, height, width), "
                f"got {shape}; generate at the size that it was trained on, or leave it out"
            )


def built(config: NetworkConfig, device: str = "cpu") -> AdapterNetwork:
    """Return an untrained network; on the device "meta" no memory is taken."""
    with torch.device(device):
        return AdapterNetwork(config)


def moved(latents: Tensor, displacement: Tensor) -> Tensor:
    """Return latents (B, C, h, w) plus a displacement, each rescaled to the norm that it had, with gradient.

    The norm of standard normal latents is nearly constant, and the model saw no others.
    """
    displaced = latents + displacement
    norms, displaced_norms = (value.flatten(1).norm(dim=1)[:, None, None, None] for value in (latents, displaced))
    return displaced * (norms / displaced_norms)


@torch.no_grad()
def network_inputs(
    config: NetworkConfig,
    backbone: Backbone,
    latents: Tensor,
    target_count: int,
    embeds: PromptEmbeds,
    seeds: Sequence[int],
) -> tuple[Tensor, int, Tensor | None, Tensor | None]:
    """Return what a network of this config reads, see `AdapterNetwork.forward`.

    Raises:
        AdapterFileError: the prompt's vector has another dimension than the network reads.
    """
    prompt = prompt_vector(embeds) if config.prompt_dim else None
    if prompt is not None and prompt.shape[1] != config.prompt_dim:
        raise AdapterFileError(
            f"the adapter reads prompt vectors of {config.prompt_dim} dimensions, {backbone.name} has "
            f"{prompt.shape[1]}: it is made for another model"
        )
    sample = backbone.sample(latents, embeds.expand(len(latents)), seeds).float() if config.sees_sample else None
    return latents, target_count, prompt, sample


def prompt_vector(embeds: PromptEmbeds) -> Tensor:
    """Return one vector of a prompt, float32 (B, D): its pooled embedding, or the mean over its tokens."""
    if embeds.pooled_prompt_embeds is not None:
        return embeds.pooled_prompt_embeds.float()
    tokens = embeds.prompt_embeds.float()
    if embeds.attention_mask is None:
        return tokens.mean(1)
    mask = embeds.attention_mask[..., None].to(tokens.dtype)
    return (tokens * mask).sum(1) / mask.sum(1)


def check_adapter(adapter: NoiseAdapter, backbone: Backbone) -> None:
    """Refuse an adapter of another model or of another size of images.

    Unlike a token it is not accepted by fine-tunes, LoRAs included: where objects appear depends on the denoiser's
    weights.

    Raises:
        AdapterFileError: another base model, a model with LoRAs, or another latent shape.
        ValueError: it is no adapter.
    """
    if not isinstance(adapter, NoiseAdapter):
        raise ValueError(f"one noise adapter is used at a time, a NoiseAdapter; got {type(adapter).__name__}")
    loaded = base_model(backbone)
    if adapter.base_model != loaded:
        raise of_another_model(adapter, loaded)
    check_no_loras(backbone)
    adapter.check_latents(backbone.latent_shape)


def check_no_loras(backbone: Backbone) -> None:
    """Refuse a model with LoRAs, which an adapter's file cannot name.

    Raises:
        AdapterFileError: the model has some.
    """
    if backbone.loras:
        names = ", ".join(public_name(lora.source) for lora in backbone.loras)
        raise AdapterFileError(
            f"noise adapters work with models without LoRAs, which change where objects appear; got {names}: leave "
            "the LoRA or the adapter out"
        )


def of_another_model(adapter: NoiseAdapter, loaded: str) -> AdapterFileError:
    """Return the error of an adapter that was trained on another model than the one that is loaded."""
    return AdapterFileError(
        f"the adapter was trained on {adapter.base_model!r} and does not work with {loaded!r}; load the model it was "
        "trained on (PRESET:REPOSITORY is --model REPOSITORY), or train an adapter on this one"
    )
