"""The base class of all backbones: from a prompt and latents to images, with gradient."""

from __future__ import annotations

import copy
import inspect
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
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
"""Class names of the schedulers that add no noise between their steps; all others are assumed to add some.

The last step never adds noise.
"""


class Backbone(ABC):
    """A frozen text-to-image pipeline that is sampled with gradient.

    Subclasses implement `embed` and `predict`. A family whose sampling loop differs from its scheduler's also overrides
    `sample`, or the methods that `sample` calls.

    Attributes:
        name: name of this backbone in records and recipes.
        pipeline: the stock diffusers pipeline.
        denoiser: the pipeline's U-Net or transformer.
        tiny_vae: the decoder of drafts, if it was loaded.
        num_inference_steps, guidance_scale, height, width: sampling settings.
        memory: "fast", or "low" after `save_memory`.
        given: whether the user loaded the pipeline, and no name can load it again.
        chosen: where steps and guidance come from.
        loras: adapters that were loaded with it.

    Raises:
        ValueError: the height or width is not a multiple of `size_step`.
    """

    seeds_only = False
    """Whether an image is a function of prompt and seed alone, rendered by itself, without latents and gradient."""
    _packing = 1
    """Side of the squares of latents that the transformer reads as one."""

    def __init__(self, pipeline: Any, preset: Preset, name: str, tiny_vae: torch.nn.Module | None = None) -> None:
        self.name = name
        self.preset = preset
        self.pipeline = pipeline
        denoiser: Any = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
        self.denoiser: torch.nn.Module = denoiser
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
            # Otherwise the scheduler warns about unusual timesteps at every image.
            logging.getLogger(type(pipeline.scheduler).__module__).setLevel(logging.ERROR)
        self._check_size()

    @property
    def family(self) -> str:
        """Name of its file in `countgen/backbones/`."""
        return type(self).__module__.rpartition(".")[2]

    @property
    def size_step(self) -> int:
        """The number of pixels that height and width must be multiples of."""
        denoiser: Any = self.denoiser
        return int(self.pipeline.vae_scale_factor * self._packing * (denoiser.config.get("patch_size") or 1))

    @property
    def device(self) -> torch.device:
        """The device of the denoiser."""
        return next(self.denoiser.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the denoiser's parameters."""
        return next(self.denoiser.parameters()).dtype

    @property
    def loaded_as(self) -> tuple[str, ...]:
        """What can be asked for when a model is loaded: its dtype, its scheduler's class, and its adapters."""
        adapters = (json.dumps(lora.recorded, sort_keys=True) for lora in self.loras)
        return (str(self.dtype).removeprefix("torch."), self.sampler, *adapters)

    @property
    def sampler(self) -> str:
        """What records call the sampler: the class of the scheduler."""
        return type(self.pipeline.scheduler).__name__

    @property
    def repeatable(self) -> bool:
        """Whether a seed gives the same image again."""
        return True

    @property
    def batch_size(self) -> int:
        """Number of images that are best sampled at once: on a CPU a batch takes as long as its images one by one."""
        return 1 if self.device.type == "cpu" else 8

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """The channels, height and width of one latent."""
        factor: int = self.pipeline.vae_scale_factor
        denoiser: Any = self.denoiser
        return int(denoiser.config.in_channels), self.height // factor, self.width // factor

    @property
    def _guided(self) -> bool:
        return self.guidance_scale > 1

    @abstractmethod
    def embed(self, prompt: str, negative_prompt: str | None = None) -> PromptEmbeds:
        """Run the text encoders on one prompt, and on the negative one, by default empty, if guidance is used."""

    @abstractmethod
    def predict(self, latents: Tensor, timestep: Tensor, embeds: PromptEmbeds) -> Tensor:
        """Return the denoiser's raw output without guidance, for scaled latents (B, C, h, w) and one prompt each."""

    def check_negative_prompt(self, negative_prompt: str | None) -> None:
        """Raise for a negative prompt that would change nothing.

        Raises:
            ValueError: this model samples without guidance, or takes its guidance as a number.
        """
        if negative_prompt is not None and not self._guided:
            raise ValueError(
                f"a negative prompt needs guidance, and {self.name} samples without it (guidance_scale "
                f"{self.guidance_scale:g}): leave it out, or give a guidance scale above 1 to a model that uses it"
            )

    def encode_prompt(self, prompt: str, negative_prompt: str | None = None) -> PromptEmbeds:
        """Embed one prompt as a batch of 1, with gradient if grad mode is enabled.

        With `memory` "low" the text encoders are kept on the CPU and moved to the device for this call only. With grad
        mode enabled they stay on the device, because the backward pass needs them.

        Raises:
            ValueError: as `check_negative_prompt`.
        """
        self.check_negative_prompt(negative_prompt)
        if self.memory == "low":
            self.move_text_encoders(self.device)
        embeds = self.embed(prompt, negative_prompt)
        if self.memory == "low" and not torch.is_grad_enabled():
            self.move_text_encoders("cpu")
        # transformers loads text encoders as they are stored, diffusers the denoiser in float32 by default.
        return embeds.map(lambda tensor: tensor.to(self.dtype) if tensor.is_floating_point() else tensor)

    def denoise(self, latents: Tensor, timestep: Tensor, embeds: PromptEmbeds) -> Tensor:
        """Return the denoiser's raw output for scaled latents (B, C, h, w), with guidance applied."""
        output = self.predict(latents, timestep, embeds)
        if not self._guided:
            return output
        unconditional = self.predict(latents, timestep, embeds.negative)
        return unconditional + self.guidance_scale * (output - unconditional)

    def _encoded(self, prompt: str, **options: Any) -> Any:
        """Return what the stock pipeline's `encode_prompt` returns."""
        if self.preset.max_sequence_length is not None:
            options["max_sequence_length"] = self.preset.max_sequence_length
        return self.pipeline.encode_prompt(prompt, device=self.device, **options)

    def _guidance(self, negative_prompt: str | None) -> dict[str, Any]:
        """Return the options of `encode_prompt` for the negative prompt."""
        return {"do_classifier_free_guidance": self._guided, "negative_prompt": negative_prompt}

    def initial_latents(self, seeds: Sequence[int]) -> Tensor:
        """Return standard normal latents, float32 (len(seeds), C, h, w), one per seed.

        Each seed has its own generator on the CPU, like `generator=[...]` of the stock pipelines. A latent therefore
        depends neither on the batch it is in nor on the device.
        """
        return torch.cat([self._latent_of(torch.Generator().manual_seed(seed)) for seed in seeds]).to(self.device)

    def _latent_of(self, generator: torch.Generator) -> Tensor:
        return torch.randn((1, *self.latent_shape), generator=generator)

    def render(
        self,
        latents: Tensor,
        embeds: PromptEmbeds,
        seeds: Sequence[int] | None = None,
        *,
        draft: bool = False,
    ) -> Tensor:
        """Sample images from latents, with gradient to latents and embeds.

        Args:
            latents: standard normal, float (B, C, h, w), as `initial_latents` returns them.
            embeds: embeddings of one prompt (batch 1), or of one prompt per latent.
            seeds: the seeds of the latents. A sampler that adds noise between its steps samples that noise as the
                stock pipeline does with these seeds, and needs them at more than one step.
            draft: decode with the tiny VAE, if there is one.

        Raises:
            ValueError: the number of seeds differs from that of the latents, or the sampler needs seeds and got none.

        Returns:
            RGB float32 (B, 3, H, W) in [0, 1], equal to the stock pipeline's `output_type="pt"`. The gradient ignores
            the clamp to [0, 1], so that saturated pixels can still change.
        """
        if seeds is not None and len(seeds) != len(latents):
            raise ValueError(f"expected a seed for each latent, got {len(seeds)} seeds for {len(latents)} latents")
        if seeds is None and self._is_stochastic:
            raise ValueError(
                f"{type(self.pipeline.scheduler).__name__} adds noise between its {self.num_inference_steps} steps: "
                "give seeds=, the seeds of the latents"
            )
        scale = GradientScale() if self.dtype == torch.float16 and torch.is_grad_enabled() else None
        embeds = embeds.expand(len(latents))
        if scale is not None:
            latents = scale.unscale_gradient(latents)
            embeds = scale.unscale_embeds(embeds)
        sample = self.sample(latents, embeds, seeds)
        images = self.decode(sample, draft=draft)
        return images if scale is None else scale.scale_gradient(images)

    def render_in_parts(
        self,
        latents: Tensor,
        embeds: PromptEmbeds,
        seeds: Sequence[int],
        *,
        draft: bool = False,
        check: Callable[[], object] = lambda: None,
    ) -> tuple[Tensor, Tensor]:
        """Sample images as `render` does, without gradient, and with `memory` "low" one after the other.

        `check` is called before each step of the sampler; its error ends the rendering.

        Returns:
            The images, and the clean latents (B, C, h, w) that they were decoded from.
        """
        size = 1 if self.memory == "low" else len(seeds)
        images, samples = [], []
        with torch.no_grad():
            for start in range(0, len(seeds), size):
                rows = slice(start, start + size)
                samples.append(self.sample(latents[rows], embeds.expand(size), seeds[rows], check))
                images.append(self.decode(samples[-1], draft=draft))
            return torch.cat(images), torch.cat(samples)

    def sample(
        self,
        latents: Tensor,
        embeds: PromptEmbeds,
        seeds: Sequence[int] | None,
        check: Callable[[], object] = lambda: None,
    ) -> Tensor:
        """Return clean latents (B, C, h, w), sampled from noise with the pipeline's scheduler; see `render`."""
        scheduler = self.pipeline.scheduler
        timesteps, moved = self._timesteps(latents.device)
        options = self._step_options(seeds)
        # Flow-matching schedulers scale neither the noise nor the denoiser's input.
        scale = getattr(scheduler, "scale_model_input", lambda sample, _: sample)
        sample = (latents * getattr(scheduler, "init_noise_sigma", 1.0)).to(self._sample_dtype)
        for timestep, on_device in zip(timesteps, moved, strict=True):
            check()
            output = self.denoise(scale(sample, timestep), on_device, embeds)
            sample = self._step(output, timestep, sample, options)
        return sample

    @property
    def _sample_dtype(self) -> torch.dtype:
        """The dtype of the latents between the steps."""
        return self.dtype

    def _timesteps(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Restart the scheduler and return its timesteps on the CPU and on the denoiser's device.

        The scheduler gets those on the CPU, where its tables are: with timesteps on the GPU, every table lookup would
        synchronise with the GPU.
        """
        scheduler = self.pipeline.scheduler
        self._set_timesteps()
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(0)
        timesteps: Tensor = scheduler.timesteps
        return timesteps, self._constant(timesteps.tolist(), timesteps.dtype, device)

    def _constant(self, values: Sequence[float], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return a small tensor that is copied to the GPU only once: a CUDA graph cannot hold a copy from the CPU."""
        key = (*values, dtype, device)
        if key not in self._constants:
            self._constants[key] = torch.tensor(values, dtype=dtype, device=device)
        return self._constants[key]

    def uncached_copy(self) -> Backbone:
        """Return a backbone that shares the weights, without the constants cached by earlier runs."""
        uncached = copy.copy(self)
        uncached._constants = {}
        return uncached

    def changed(self, **sampling: Any) -> Backbone:
        """Return a backbone that shares the weights, with other steps, guidance, height or width.

        Raises:
            ValueError: a value that is not possible.
        """
        if sampling.get("num_inference_steps", self.num_inference_steps) != self.num_inference_steps:
            sampling["timesteps"] = None  # explicit ones are as many as the steps
        changed = self.uncached_copy()
        changed.preset = replace(self.preset, **sampling)
        for name in ("num_inference_steps", "guidance_scale", "height", "width"):
            setattr(changed, name, sampling.get(name, getattr(self, name)))
        changed._check_size()
        return changed

    def _check_size(self) -> None:
        if self.height % self.size_step or self.width % self.size_step:
            raise ValueError(
                f"{self.name} generates images whose height and width are multiples of {self.size_step}, "
                f"got {self.height} x {self.width}"
            )

    def _set_timesteps(self) -> None:
        if self.preset.timesteps is not None:
            self.pipeline.scheduler.set_timesteps(timesteps=list(self.preset.timesteps))
        else:
            self.pipeline.scheduler.set_timesteps(self.num_inference_steps)

    def _step(self, output: Tensor, timestep: Tensor, sample: Tensor, options: dict[str, Any]) -> Tensor:
        return self.pipeline.scheduler.step(output, timestep, sample, **options, return_dict=False)[0]

    @property
    def _is_stochastic(self) -> bool:
        """Whether the sampler adds noise between its steps."""
        scheduler = self.pipeline.scheduler
        stochastic = (
            type(scheduler).__name__ not in DETERMINISTIC
            or str(scheduler.config.get("algorithm_type")).startswith("sde")
            or scheduler.config.get("stochastic_sampling")
        )
        return self.num_inference_steps > 1 and bool(stochastic)

    def _step_options(self, seeds: Sequence[int] | None) -> dict[str, Any]:
        """Return each seed's generator in its state after the initial latent was sampled, if the steps need them."""
        takes_generator = "generator" in inspect.signature(self.pipeline.scheduler.step).parameters
        if seeds is None or self.num_inference_steps == 1 or not takes_generator:
            return {}
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        for generator in generators:
            self._latent_of(generator)
        return {"generator": generators}

    def cuda_graph_obstacle(self) -> str | None:
        """Return why `render` cannot be captured in a CUDA graph, or None if it can."""
        if self.device.type != "cuda":
            return f"the device is {self.device.type}"
        if self.memory == "low":
            return 'memory="low" recomputes activations, which a CUDA graph would keep'
        if any(getattr(part, "_compiled_call_impl", None) is not None for part in self.denoiser.modules()):
            return "its denoiser is compiled"
        if self._is_stochastic:
            return f"{type(self.pipeline.scheduler).__name__} samples noise on the CPU between steps"
        return None

    def save_memory(self) -> None:
        """Set `memory` to "low": reduce peak memory at the cost of time, with the same images.

        Activations are recomputed in the backward pass instead of being kept, batches are decoded one image at a time,
        and the text encoders are kept on the CPU. The VAE is not tiled, because tiling changes the image.
        """
        self.memory = "low"
        for module in (self.denoiser, self.pipeline.vae):
            if getattr(module, "_supports_gradient_checkpointing", False):
                module.enable_gradient_checkpointing()  # type: ignore[operator]
        if hasattr(self.pipeline.vae, "enable_slicing"):
            self.pipeline.vae.enable_slicing()
        self.move_text_encoders("cpu")

    def move_to(self, device: str | torch.device) -> None:
        """Move the backbone to a device, except for text encoders that `memory` "low" keeps on the CPU."""
        for module in self.resident():
            module.to(device)

    def resident(self) -> list[torch.nn.Module]:
        """Return the modules that stay on the device."""
        parts = {**self.pipeline.components, "tiny_vae": self.tiny_vae}
        return [
            part
            for name, part in parts.items()
            if isinstance(part, torch.nn.Module) and not (self.memory == "low" and name.startswith("text_encoder"))
        ]

    def move_text_encoders(self, device: str | torch.device) -> None:
        """Move the text encoders to a device, for example to the CPU once the prompts are encoded."""
        for name, component in self.pipeline.components.items():
            if name.startswith("text_encoder") and component is not None:
                component.to(device)

    def decode(self, latents: Tensor, *, draft: bool = False) -> Tensor:
        """Decode clean latents into images, RGB float32 (B, 3, H, W) in [0, 1], whose gradient ignores the clamp."""
        vae: Any = self.tiny_vae if draft and self.tiny_vae is not None else self.pipeline.vae
        images: Tensor = vae.decode(self._vae_latents(latents, vae).to(vae.dtype), return_dict=False)[0]
        images = images.float() / 2 + 0.5
        return images + (images.clamp(0, 1) - images).detach()

    def _vae_latents(self, latents: Tensor, vae: Any) -> Tensor:
        """Return what the VAE decodes for clean latents, which have unit variance."""
        latents = latents / vae.config.scaling_factor
        return latents + vae.config.shift_factor if getattr(vae.config, "shift_factor", None) else latents
