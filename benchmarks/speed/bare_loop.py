"""The optimisation loop as one would write it in plain torch for the miniature: nothing of this library runs in it.

The prompt is encoded once by the stock pipeline; each step runs the U-Net, the one-step formula, the decoder, two
detectors on three views, duplicate suppression, the hinge on ranked logits, backward and Adam.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.ops import nms

from countgen.models import Models
from countgen.prompts import Target

WIDTH = 1.5
"""Width of the hinge, in logits."""
PEAK = 20.0
"""Subtracted where a cell is not the highest of its neighbourhood."""


def bare_loop(models: Models, prompt: str, target: Target) -> Callable[[], float]:
    """Return a function that makes one step at each call and returns the loss.

    Args:
        models: only the stock pipeline and the detectors' networks are taken from it.
        prompt: of the image.
        target: what to count.
    """
    pipeline = models.backbone.pipeline
    yolo_critic, heat_critic = models.critics
    yolo: Any = vars(yolo_critic)["model"]
    heat_map: Any = vars(heat_critic)["detector"]
    side = models.backbone.height
    column = yolo_critic.column(target.object_name), heat_critic.column(target.object_name)
    with torch.no_grad():
        embeds, _, pooled, _ = pipeline.encode_prompt(
            prompt, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
        )
    added = {"text_embeds": pooled, "time_ids": torch.tensor([[side, side, 0.0, 0.0, side, side]])}
    pipeline.scheduler.set_timesteps(1)
    sigma, timestep = pipeline.scheduler.sigmas[0], pipeline.scheduler.timesteps[0]
    start = pipeline.scheduler.init_noise_sigma
    latents = torch.randn(1, 4, side // 4, side // 4, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    optimizer = torch.optim.Adam([latents], lr=0.08)

    def render() -> Tensor:
        noisy = latents * start
        v = pipeline.unet(
            noisy / (sigma**2 + 1) ** 0.5,
            timestep,
            encoder_hidden_states=embeds,
            added_cond_kwargs=added,
            return_dict=False,
        )[0]
        clean = v * (-sigma / (sigma**2 + 1) ** 0.5) + noisy / (sigma**2 + 1)
        image = pipeline.vae.decode(clean / pipeline.vae.config.scaling_factor, return_dict=False)[0] / 2 + 0.5
        return image + (image.clamp(0, 1) - image).detach()

    def yolo_losses(images: Tensor) -> Tensor:
        decoded, raw = yolo(images)
        x, y, width, height = decoded[:, :4].unbind(1)
        boxes = torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], -1)
        return _hinges(boxes, raw["scores"].transpose(1, 2), column[0], target.target_count, yolo_critic)

    def heat_map_losses(images: Tensor) -> Tensor:
        heat, log_size, offset = heat_map(images)
        peaks = heat == torch.nn.functional.max_pool2d(heat, 3, stride=1, padding=1)
        rows = torch.arange(heat.shape[-1]) + 0.5
        cells = torch.stack(torch.meshgrid(rows, rows, indexing="xy"))
        centre, half = (cells + offset) * 4, log_size.clamp(-4, 4).exp() * 8
        boxes = torch.cat([centre - half, centre + half], 1).flatten(2).transpose(1, 2)
        logits = torch.where(peaks, heat, heat - PEAK).flatten(2).transpose(1, 2)
        return _hinges(boxes, logits, column[1], target.target_count, heat_critic)

    def step() -> float:
        image = render()
        pair = torch.cat([image, image.flip(-1)])
        larger = interpolate(image, (160, 160), mode="bilinear", antialias=False)
        slightly_larger = interpolate(image, (144, 144), mode="bilinear", align_corners=False)
        loss = yolo_losses(pair).sum() + yolo_losses(larger).sum()
        loss = (loss + heat_map_losses(pair).sum() + heat_map_losses(slightly_larger).sum()) / 3
        norm = torch.linalg.vector_norm(latents)
        prior = 0.01 * (norm**2 / 2 - (latents.numel() - 1) * norm.log())
        optimizer.zero_grad()
        (loss + prior).backward()
        torch.nn.utils.clip_grad_norm_([latents], 10.0)
        optimizer.step()
        return loss.item()

    return step


def _hinges(boxes: Tensor, logits: Tensor, column: int, count: int, critic: Any) -> Tensor:
    """Return the hinge of each image, float32 (B,)."""
    threshold = critic.threshold_logit
    losses = []
    for box, logit in zip(boxes.detach(), logits, strict=True):
        score = logit[:, column]
        lead = logit.amax(-1) - score
        score = torch.where(lead > 0, score.clamp(max=threshold) - lead, score)
        score, order = score.topk(min(1024, len(score)))
        kept = torch.zeros(len(score), dtype=torch.bool)
        kept[nms(box[order], score.detach(), critic.settings.nms_iou)] = True
        above = score.detach() > threshold
        ranked = torch.cat([which.nonzero()[:, 0] for which in (kept, ~kept & ~above, ~kept & above)])
        distance, kept = score[ranked] - threshold, kept[ranked]
        inside = torch.arange(len(ranked)) < count
        lacking = (WIDTH - distance).relu() * inside
        surplus = (WIDTH + distance).relu() * (kept & ~inside)
        losses.append((lacking + surplus).sum())
    return torch.stack(losses)
