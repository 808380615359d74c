"""What a backbone promises: prompt and latents in, a picture with gradient out."""

from __future__ import annotations

import copy
import inspect
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from countgen.backbones.gradient_scaling import GradientScale
from countgen.backbones.lora import Lora
from countgen.backbones.preset import Preset
from countgen.backbones.prompt_embeds import PromptEmbeds

MEMORY = ("fast", "low")
DETERMINISTIC = {
    "DDIMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerDiscreteScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
}
"""Schedulers that add no noise between their steps, as they are called here; all others are taken to. A last step adds
none."""


class Backbone(ABC):
    """A frozen text-to-image pipeline, sampled with gradient.

    Subclasses implement `embed` and `predict`; where the family samples by another rule than its
    scheduler's, also `sample` or the steps it is made of.

    Attributes:
        name: what records call this backbone.
        pipeline: the stock diffusers pipeline.
        denoiser: its U-Net or transformer.
        tiny_vae: the decoder of drafts, if it was loaded.
        num_inference_steps, guidance_scale, height, width: how it is sampled.
        memory: "fast", or "low" after `save_memory`.
        given: whether the user loaded the pipeline, and no name can load it again.
        chosen: where steps and guidance come from.
        loras: adapters that were loaded with it.

    Raises:
        ValueError: a height or width that the latents cannot have.
    """

    def __init__(self, pipeline: Any, preset: Preset, name: str, tiny_vae: torch.nn.Module | None = None) -> None:
        self.name = name
        self.preset = preset
        self.pipeline = pipeline
        self.denoiser: torch.nn.Module = pipeline.unet if hasattr(pipeline, "unet") else pipeline.transformer
        self.tiny_vae = tiny_vae
        self.num_inference_steps = preset.num_inference_steps
        self.guidance_scale = preset.guidance_scale
        self.height = preset.height
        self.width = preset.width
        self.memory = "fast"
        self.given = False
        self.chosen = ""
        self.loras: tuple[Lora, ...] = ()
        self._constants: dict[tuple[Any, ...], Tensor] = {}
        for component in (*pipeline.components.values(), tiny_vae):
            if isinstance(component, torch.nn.Module):
                component.eval().requires_grad_(False)
        if preset.timesteps is not None:
            # Where they are not its usual ones, the scheduler would warn of them at every picture.
            logging.getLogger(type(pipeline.scheduler).__module__).setLevel(logging.ERROR)
        if self.height % self.size_step or self.width % self.size_step:
            raise ValueError(
                f"{name} draws pictures whose height and width are multiples of {self.size_step}, "
                f"got {self.height} x {self.width}"
            )

    @property
    def family(self) -> str:
        """Name of its file in `countgen/backbones/`."""
        return type(self).__module__.rpartition(".")[2]

    @property
    def size_step(self) -> int:
        """Pixels by which height and width can change."""
        denoiser: Any = self.denoiser
        return int(self.pipeline.vae_scale_factor * (denoiser.config.get("patch_size") or 1))

    @property
    def device(self) -> torch.device:
        """Where the denoiser is."""
        return next(self.denoiser.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The denoiser's."""
        return next(self.denoiser.parameters()).dtype

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one latent."""
        factor: int = self.pipeline.vae_scale_factor
        denoiser: Any = self.denoiser
        return int(denoiser.config.in_channels), self.height // factor, self.width // factor

    @property
    def _guided(self) -> bool:
        return self.guidance_scale > 1

    @abstractmethod
    def embed(self, prompt: str, negative_prompt: str | None = None) -> PromptEmbeds:
        """Run the text encoders on one prompt, and on the negative one, by default empty, where guidance is used."""

    @abstractmethod
    def predict(self, latents: Tensor, timestep: Tensor, embeds: PromptEmbeds) -> Tensor:
        """The denoiser's raw output for scaled latents (B, C, h, w) and one prompt each, without guidance."""

    def check_negative_prompt(self, negative_prompt: str | None) -> None:
        """Refuse a negative prompt that would change nothing.

        Raises:
            ValueError: this model samples without guidance, or takes its guidance as a number.
        """
        if negative_prompt is not None and not self._guided:
            raise ValueError(
                f"a negative prompt needs guidance, and {self.name} samples without it (guidance_scale "
                f"{self.guidance_scale:g}): leave negative_prompt out, or give a guidance_scale above 1 to a model of "
                "a family that uses it: stable_diffusion, stable_diffusion_xl, stable_diffusion_3 or pixart"
            )

    def encode_prompt(self, prompt: str, negative_prompt: str | None = None) -> PromptEmbeds:
        """Embed one prompt, batch of 1, with gradient where the caller's grad mode allows.

        With `memory` "low" the text encoders wait on the CPU, and come to the device for this only; they stay
        where a gradient will pass through them.

        Raises:
            ValueError: as `check_negative_prompt`.
        """
        self.check_negative_prompt(negative_prompt)
        if self.memory != "low":
            return self.embed(prompt, negative_prompt)
        self.move_text_encoders(self.device)
        embeds = self.embed(prompt, negative_prompt)
        if not torch.is_grad_enabled():
            self.move_text_encoders("cpu")
        return embeds

    def denoise(self, latents: Tensor, timestep: Tensor, embeds: PromptEmbeds) -> Tensor:
        """The denoiser's raw output for scaled latents (B, C, h, w), guidance applied."""
        output = self.predict(latents, timestep, embeds)
        if not self._guided:
            return output
        plain = self.predict(latents, timestep, embeds.negative)
        return plain + self.guidance_scale * (output - plain)

    @property
    def _sequence_length(self) -> dict[str, int]:
        length = self.preset.max_sequence_length
        return {} if length is None else {"max_sequence_length": length}

    def initial_latents(self, seeds: Sequence[int]) -> Tensor:
        """Standard normal latents, float32 (len(seeds), C, h, w).

        Each seed has a generator of its own on the CPU, as `generator=[...]` of the stock pipelines, so a
        batch equals its singles and every device starts from the same noise.
        """
        return torch.cat([self._latent_of(torch.Generator().manual_seed(seed)) for seed in seeds]).to(self.device)

    def _latent_of(self, generator: torch.Generator) -> Tensor:
        return torch.randn((1, *self.latent_shape), generator=generator)

    def render(
        self, latents: Tensor, embeds: PromptEmbeds, seeds: Sequence[int] | None = None, *, draft: bool = False
    ) -> Tensor:
        """Sample pictures from latents, with gradient to latents and embeds.

        Args:
            latents: standard normal, float (B, C, h, w), as `initial_latents` gives.
            embeds: of one prompt (batch 1), or one per latent.
            seeds: those of the latents; samplers that add noise between steps draw it as the stock pipeline
                would with these seeds. Needed for such samplers at more than one step.
            draft: decode with the tiny VAE, if there is one.

        Raises:
            ValueError: seeds of another number than the latents, or none where the sampler needs them.

        Returns:
            RGB float32 (B, 3, H, W) in [0, 1], equal to the stock pipeline's `output_type="pt"`. The clamp
            to [0, 1] passes gradient, so an over-exposed pixel can come back.
        """
        if seeds is not None and len(seeds) != len(latents):
            raise ValueError(f"expected a seed for each latent, got {len(seeds)} seeds for {len(latents)} latents")
        if seeds is None and self._draws_noise:
            raise ValueError(
                f"{type(self.pipeline.scheduler).__name__} draws noise between its {self.num_inference_steps} steps: "
                "give seeds=, those of the latents"
            )
        scale = GradientScale() if self.dtype == torch.float16 and torch.is_grad_enabled() else None
        embeds = embeds.expand(len(latents))
        if scale is not None:
            latents = scale.leave(latents)
            embeds = embeds.map(lambda tensor: scale.leave(tensor).to(tensor.dtype) if tensor.requires_grad else tensor)
        sample = self.sample(latents, embeds, seeds)
        images = self.decode(sample, draft=draft)
        return images if scale is None else scale.enter(images)

    def sample(self, latents: Tensor, embeds: PromptEmbeds, seeds: Sequence[int] | None) -> Tensor:
        """Clean latents (B, C, h, w) from noise, by the pipeline's scheduler."""
        scheduler = self.pipeline.scheduler
        timesteps, moved = self._timesteps(latents.device)
        options = self._step_options(self._generators(seeds) if len(timesteps) > 1 else None)
        # Flow-matching schedulers scale neither the noise nor what the denoiser reads.
        scale = getattr(scheduler, "scale_model_input", lambda sample, _: sample)
        sample = (latents * getattr(scheduler, "init_noise_sigma", 1.0)).to(self.dtype)
        for timestep, on_device in zip(timesteps, moved, strict=True):
            output = self.denoise(scale(sample, timestep), on_device, embeds)
            sample = self._step(output, timestep, sample, options)
        return sample

    def _timesteps(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Restart the scheduler; its timesteps on the CPU, where its tables are, and where the denoiser is.

        A scheduler whose timesteps are on the GPU looks each one up there and waits for the answer.
        """
        scheduler = self.pipeline.scheduler
        self._set_timesteps()
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(0)
        timesteps: Tensor = scheduler.timesteps
        return timesteps, self._constant(timesteps.tolist(), timesteps.dtype, device)

    def _constant(self, values: Sequence[float], dtype: torch.dtype, device: torch.device) -> Tensor:
        """A small tensor, copied to the GPU once: a CUDA graph cannot hold a copy from the CPU."""
        key = (*values, dtype, device)
        if key not in self._constants:
            self._constants[key] = torch.tensor(values, dtype=dtype, device=device)
        return self._constants[key]

    def shadow(self) -> Backbone:
        """The same weights with nothing kept from earlier runs."""
        shadow = copy.copy(self)
        shadow._constants = {}
        return shadow

    def _set_timesteps(self) -> None:
        if self.preset.timesteps is not None:
            self.pipeline.scheduler.set_timesteps(timesteps=list(self.preset.timesteps))
        else:
            self.pipeline.scheduler.set_timesteps(self.num_inference_steps)

    def _step(self, output: Tensor, timestep: Tensor, sample: Tensor, options: dict[str, Any]) -> Tensor:
        stepped: Tensor = self.pipeline.scheduler.step(output, timestep, sample, **options, return_dict=False)[0]
        return stepped

    def _generators(self, seeds: Sequence[int] | None) -> list[torch.Generator] | None:
        """Each seed's generator as it stands after its latent was drawn."""
        if seeds is None:
            return None
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        for generator in generators:
            self._latent_of(generator)
        return generators

    @property
    def _draws_noise(self) -> bool:
        """Whether the sampler adds noise between its steps."""
        scheduler = self.pipeline.scheduler
        stochastic = (
            type(scheduler).__name__ not in DETERMINISTIC
            or str(scheduler.config.get("algorithm_type")).startswith("sde")
            or scheduler.config.get("stochastic_sampling")
        )
        return self.num_inference_steps > 1 and bool(stochastic)

    @property
    def _takes_generator(self) -> bool:
        return "generator" in inspect.signature(self.pipeline.scheduler.step).parameters

    def _step_options(self, generators: list[torch.Generator] | None) -> dict[str, Any]:
        return {"generator": generators} if self._takes_generator and generators is not None else {}

    def not_captured_because(self) -> str | None:
        """Why `render` cannot be held by a CUDA graph; None where it can."""
        if self.device.type != "cuda":
            return f"the device is {self.device.type}"
        if self.memory == "low":
            return 'memory="low" recomputes activations, which a CUDA graph would keep'
        if any(getattr(part, "_compiled_call_impl", None) is not None for part in self.denoiser.modules()):
            return "its denoiser is compiled"
        if self._draws_noise:
            return f"{type(self.pipeline.scheduler).__name__} draws noise on the CPU between steps"
        return None

    def save_memory(self) -> None:
        """Hold less at a time: `memory` becomes "low", and pictures stay the same.

        Activations are computed again in the backward instead of being kept, batches are decoded one by one, and
        the text encoders wait on the CPU. The VAE is not tiled: its seams would change the picture.
        """
        self.memory = "low"
        for module in (self.denoiser, self.pipeline.vae):
            if getattr(module, "_supports_gradient_checkpointing", False):
                module.enable_gradient_checkpointing()  # type: ignore[operator]
        if hasattr(self.pipeline.vae, "enable_slicing"):
            self.pipeline.vae.enable_slicing()
        self.move_text_encoders("cpu")

    def move_to(self, device: str | torch.device) -> None:
        """Put everything on a device, except text encoders that `memory` "low" keeps on the CPU."""
        for module in self.resident():
            module.to(device)

    def resident(self) -> list[torch.nn.Module]:
        """What is on the device all the time."""
        parts = {**self.pipeline.components, "tiny_vae": self.tiny_vae}
        return [
            part
            for name, part in parts.items()
            if isinstance(part, torch.nn.Module) and not (self.memory == "low" and name.startswith("text_encoder"))
        ]

    def move_text_encoders(self, device: str | torch.device) -> None:
        """Put the text encoders elsewhere, for example once the prompts are encoded."""
        for name, component in self.pipeline.components.items():
            if name.startswith("text_encoder") and component is not None:
                component.to(device)

    def decode(self, latents: Tensor, *, draft: bool = False) -> Tensor:
        """Pictures from clean latents: RGB float32 (B, 3, H, W) in [0, 1], with gradient through the clamp."""
        vae: Any = self.tiny_vae if draft and self.tiny_vae is not None else self.pipeline.vae
        latents = latents / vae.config.scaling_factor
        if getattr(vae.config, "shift_factor", None):
            latents = latents + vae.config.shift_factor
        picture = vae.decode(latents.to(vae.dtype), return_dict=False)[0]
        picture = picture.float() / 2 + 0.5
        return picture + (picture.clamp(0, 1) - picture).detach()
