"""Train a LoRA for a one-step model by the loss of critics: `python docs/train_lora.py PROMPTS lora.safetensors`.

The file is one that diffusers, ComfyUI and web UIs read. The gradient passes through the whole model.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers.utils import convert_state_dict_to_kohya
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from countgen.backbones import Backbone, load
from countgen.benchmarks.evaluation.suites import Prompt
from countgen.benchmarks.evaluation.suites import load as load_prompts
from countgen.critics import Critic
from countgen.critics.losses import LOSSES
from countgen.miniature import CRITICS
from countgen.models import load_critic

LAYERS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"]


def count_loss(backbone: Backbone, critics: Sequence[Critic], prompt: Prompt, seeds: Sequence[int]) -> torch.Tensor:
    """Return the critics' loss of the images of a prompt, (B,); the same weight for few objects and for many."""
    images = backbone.render(backbone.initial_latents(seeds), backbone.encode_prompt(prompt.prompt), seeds)
    targets = {target.object_name: target.target_count for target in prompt.targets}
    return sum(critic.evaluate(images, targets, LOSSES["margin"]).loss for critic in critics) / prompt.total


def train(
    backbone: Backbone,
    critics: Sequence[Critic],
    prompts: Sequence[Prompt],
    images: int,
    *,
    rank: int = 16,
    learning_rate: float = 3e-4,
    seeds: Sequence[int] = range(2**31),
) -> list[float]:
    """Add a LoRA to the denoiser and train it; return the mean loss of each step, of four images of four prompts."""
    torch.manual_seed(0)
    backbone.denoiser.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=LAYERS))
    weights = [parameter for parameter in backbone.denoiser.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=0.01)
    rng, losses = random.Random(0), []
    number = min(4, len(prompts))
    for step in range(images // (4 * number)):
        total = 0.0
        for prompt in rng.sample(prompts, number):  # one after the other: memory is that of four images
            loss = count_loss(backbone, critics, prompt, rng.sample(seeds, 4)).mean() / number
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total)
        print(f"step {step}: loss {total:.3f}", flush=True)
    return losses


def save(backbone: Backbone, path: Path) -> None:
    """Write the LoRA under the names of kohya's scripts."""
    state = {f"unet.{name}": value for name, value in get_peft_model_state_dict(backbone.denoiser).items()}
    save_file({name: value.contiguous() for name, value in convert_state_dict_to_kohya(state).items()}, path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prompts", help="a suite, or a file of prompts with counts")
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="miniature", help="a one-step model with a U-Net")
    parser.add_argument("--critic", action="append", help="a detector that steers; repeatable")
    parser.add_argument("--images", type=int, default=3500)
    options = parser.parse_args()
    model, steering = load(options.model), [load_critic(name) for name in options.critic or CRITICS]
    train(model, steering, load_prompts(options.prompts), options.images)
    save(model, options.out)
