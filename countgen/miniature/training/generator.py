"""The text-to-image generator of the training stages: text encoders and denoiser, read from stock pipeline folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

LATENT_SHAPE = (4, 32, 32)
MINIATURE = Path(__file__).parent.parent


class Conditioning(NamedTuple):
    """The text conditioning of a denoiser.

    Attributes:
        prompt_embeds: (B, L, D).
        extra: (B, D) pooled embeddings of the U-Net family; bool (B, L) token mask of the PixArt family.
    """

    prompt_embeds: Tensor
    extra: Tensor


@dataclass(frozen=True)
class Family:
    """The differences between the two text-to-image families.

    Attributes:
        folder: the shipped one-step pipeline, template of classes, configs and tokenizers.
        one_step_timestep: timestep of the one-step student.
        denoising_timesteps: timesteps at which the stage `student` also trains to denoise, so that more steps work;
            `sharpen` trains later steps between the least and the greatest.
        ode_steps, guidance_scale: sampling settings of the teacher for its pairs.
        focus: range of 40 % of the timesteps in the teacher's training, those that determine the layout.
        finished_from, laid_out_from: ranges of timesteps from which the teacher finishes a student's image, without
            and with a change of layout. The signal-to-noise ratios of both families are equal.
    """

    name: str
    folder: Path
    one_step_timestep: int
    denoising_timesteps: tuple[int, ...]
    ode_steps: int
    guidance_scale: float
    focus: tuple[int, int]
    finished_from: tuple[int, int]
    laid_out_from: tuple[int, int]


FAMILIES = {
    "unet": Family(
        "unet", MINIATURE / "mini-sdxl-turbo", 999, (249, 499, 749), 10, 2.0, (500, 1000), (600, 850), (850, 950)
    ),
    "pixart": Family("pixart", MINIATURE / "mini-pixart-dmd", 400, (), 14, 4.5, (150, 700), (420, 610), (610, 700)),
}


class Generator(nn.Module):
    """The denoiser and the text encoders of one family, which are trained together.

    `read_generator` reads it, and separately its VAE, from a stock pipeline folder.

    Raises:
        ValueError: the pipeline is of another family, or its scheduler is not for v-prediction.
    """

    alphas_cumprod: Tensor

    def __init__(self, family: Family, pipeline: Any) -> None:
        super().__init__()
        part = "unet" if family.name == "unet" else "transformer"
        if not hasattr(pipeline, part):
            raise ValueError(f"a {type(pipeline).__name__} has no {part}: give a folder of the {family.name} family")
        self.family = family
        self.denoiser: nn.Module = getattr(pipeline, part)
        names = ("text_encoder", "text_encoder_2") if family.name == "unet" else ("text_encoder",)
        self.text_encoders = nn.ModuleList([getattr(pipeline, name) for name in names])
        self._tokenizers = [getattr(pipeline, name.replace("text_encoder", "tokenizer")) for name in names]
        config = pipeline.scheduler.config
        if config.prediction_type != "v_prediction":
            raise ValueError(
                f"the scheduler has the prediction type {config.prediction_type!r}, the stages train v_prediction: set "
                "prediction_type in the folder's scheduler_config.json and train the teacher for it"
            )
        spread = 0.5 if config.beta_schedule == "scaled_linear" else 1.0
        betas = torch.linspace(config.beta_start**spread, config.beta_end**spread, 1000, dtype=torch.float64)
        self.register_buffer("alphas_cumprod", (1 - betas ** (1 / spread)).cumprod(0).float(), persistent=False)
        self.scheduler_config = dict(config)

    def tokenize(self, captions: Sequence[str]) -> Tensor:
        """Return int16 (B, 2, 32): token ids of both encoders (U-Net), or token ids and their mask (PixArt)."""
        rows = [
            tokenizer(list(captions), padding="max_length", max_length=32, truncation=True, return_tensors="pt")
            for tokenizer in self._tokenizers
        ]
        second = rows[1].input_ids if len(rows) == 2 else rows[0].attention_mask
        return torch.stack([rows[0].input_ids, second], 1).to(torch.int16)

    def encode(self, tokens: Tensor) -> Conditioning:
        """Return text embeddings of `tokenize`'s rows, equal to the stock pipelines', with gradient to the encoders."""
        first, second = tokens.long().unbind(1)
        if self.family.name == "unet":
            one = self.text_encoders[0](first, output_hidden_states=True)
            two = self.text_encoders[1](second, output_hidden_states=True)
            return Conditioning(torch.cat([one.hidden_states[-2], two.hidden_states[-2]], -1), two.text_embeds)
        embeds = self.text_encoders[0](first, attention_mask=second).last_hidden_state
        return Conditioning(embeds, second.bool())

    def _added(self, conditioning: Conditioning) -> dict[str, Any]:
        if self.family.name == "unet":
            size = torch.tensor([128, 128, 0, 0, 128, 128], device=conditioning.extra.device)
            return {"text_embeds": conditioning.extra, "time_ids": size.expand(len(conditioning.extra), 6)}
        return {"resolution": None, "aspect_ratio": None}

    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the v-prediction, float32 (B, 4, 32, 32), at int64 timesteps (B,)."""
        arguments: dict[str, Any] = {"added_cond_kwargs": self._added(conditioning), "return_dict": False}
        if self.family.name == "pixart":
            arguments["encoder_attention_mask"] = conditioning.extra
        embeds = conditioning.prompt_embeds
        predicted: Tensor = self.denoiser(latents, timestep=timesteps, encoder_hidden_states=embeds, **arguments)[0]
        return predicted.float()

    def features(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> list[Tensor]:
        """Return feature maps (B, C, h, w) of the denoiser's first part, the input of the discriminator."""
        net: Any = self.denoiser
        embeds, extra = conditioning
        if self.family.name == "unet":
            time = net.time_embedding(net.get_time_embed(latents, timesteps))
            time = time + net.get_aug_embed(time, embeds, self._added(conditioning))
            hidden, found = net.conv_in(latents), []
            for block in net.down_blocks:
                if getattr(block, "has_cross_attention", False):
                    hidden, _ = block(hidden, time, encoder_hidden_states=embeds)
                else:
                    hidden, _ = block(hidden, time)
                found.append(hidden)
            return [*found, net.mid_block(hidden, time, encoder_hidden_states=embeds)]
        side = latents.shape[-1] // net.config.patch_size
        hidden = net.pos_embed(latents)
        time, _ = net.adaln_single(
            timesteps, self._added(conditioning), batch_size=len(latents), hidden_dtype=hidden.dtype
        )
        embeds = net.caption_projection(embeds)
        mask = ((1 - extra.to(hidden.dtype)) * -10000.0)[:, None]
        found = []
        for number, block in enumerate(net.transformer_blocks[:6]):
            hidden = block(hidden, encoder_hidden_states=embeds, encoder_attention_mask=mask, timestep=time)
            if number % 2:
                found.append(hidden.transpose(1, 2).unflatten(2, (side, side)))
        return found

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Return noised latents sqrt(a) x + sqrt(1-a) e and the v target sqrt(a) e - sqrt(1-a) x.

        Source: Salimans and Ho 2022.
        """
        alpha = self.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        return alpha.sqrt() * latents + (1 - alpha).sqrt() * noise, alpha.sqrt() * noise - (1 - alpha).sqrt() * latents

    def denoise(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the clean latents sqrt(a) x - sqrt(1-a) v that the v-prediction at int64 timesteps (B,) implies."""
        alpha = self.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        return alpha.sqrt() * latents - (1 - alpha).sqrt() * self.predict(latents, timesteps, conditioning)

    def one_step(self, noise: Tensor, conditioning: Conditioning) -> Tensor:
        """Return clean latents from standard normal noise in one step, equal to the stock pipeline's."""
        timesteps = torch.full((len(noise),), self.family.one_step_timestep, device=noise.device)
        alpha = self.alphas_cumprod[self.family.one_step_timestep]
        # Euler's scaled initial latents are sqrt(1 - a) noise for the U-Net; PixArt-DMD uses the noise unscaled.
        latents = noise * (1 - alpha).sqrt() if self.family.name == "unet" else noise
        return self.denoise(latents, timesteps, conditioning)


def read_pipeline(folder: Path) -> Any:
    """Read a stock diffusers pipeline from a folder, float32.

    Raises:
        ValueError: the folder holds no pipeline.
    """
    from diffusers import DiffusionPipeline

    if not (folder / "model_index.json").is_file():
        raise ValueError(f"{folder} is not a pipeline folder (no model_index.json); run the stage that writes it")
    return DiffusionPipeline.from_pretrained(folder, use_safetensors=True, dtype=torch.float32)


def read_generator(family: Family, folder: Path) -> tuple[Generator, nn.Module]:
    """Read a generator and its frozen VAE from a stock pipeline folder, float32 on the CPU."""
    pipeline = read_pipeline(folder)
    return Generator(family, pipeline), pipeline.vae.eval().requires_grad_(False)


def read_vae(folder: Path) -> nn.Module:
    """Read a frozen autoencoder from a diffusers component folder, float32 on the CPU.

    Raises:
        ValueError: the folder holds no autoencoder.
    """
    from diffusers import AutoencoderKL

    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} is not the folder of an autoencoder (no config.json); the stage vae writes one")
    vae: nn.Module = AutoencoderKL.from_pretrained(folder, use_safetensors=True, dtype=torch.float32)
    return vae.eval().requires_grad_(False)


def decode(vae: Any, latents: Tensor) -> Tensor:
    """Decode scaled latents into RGB float32 (B, 3, 128, 128), near [0, 1] but not clamped, with gradient."""
    return (vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0].float() + 1) / 2


def encode_images(vae: Any, images: Tensor) -> Tensor:
    """Encode RGB images in [0, 1] into scaled latents (B, 4, 32, 32), the mean of the posterior."""
    return vae.encode(images * 2 - 1).latent_dist.mean.float() * vae.config.scaling_factor
