"""A LoRA for the embedded miniature, with random weights."""

from pathlib import Path

import torch

from countgen import backbones


def write_lora(folder: Path) -> Path:
    """Write it as diffusers does, and return the file; needs peft."""
    from diffusers import StableDiffusionXLPipeline
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    trained = backbones.load("miniature").pipeline.unet
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trained.add_adapter(LoraConfig(r=2, init_lora_weights=False, target_modules=["to_k", "to_v"]))
    StableDiffusionXLPipeline.save_lora_weights(folder, unet_lora_layers=get_peft_model_state_dict(trained))
    return folder / "pytorch_lora_weights.safetensors"
