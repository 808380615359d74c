"""Read models that measure image quality from local files: CLIP, a CLIP trained on preferences, AlexNet's features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from countgen.benchmarks.evaluation.quality import Clip, Features

if TYPE_CHECKING:
    from PIL.Image import Image

_AFTER_RELU = (1, 4, 7, 9, 11)
"""Layers of AlexNet's `features` whose outputs LPIPS compares."""
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's channels, RGB in [0, 1]."""
_SMALLEST = 63
"""Pixels of an image's shorter side that AlexNet's layers need."""


def load_clip(folder: str | Path) -> Clip:
    """Load a CLIP model and its processor from a local folder in transformers' format, on CUDA where there is one.

    Raises:
        ValueError: no such folder, or it holds no such model.
    """
    if not (Path(folder) / "config.json").is_file():  # transformers would search for it on the hub
        raise ValueError(f"{folder} holds no CLIP model; give a local folder with config.json and safetensors weights")
    from transformers import CLIPModel, CLIPProcessor

    device = _device()
    try:
        found, info = CLIPModel.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
        processor = CLIPProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{folder} holds no complete CLIP model; give a local folder with config.json, safetensors weights and the "
            f"files of its processor ({' '.join(str(error).split())[:300]})"
        ) from error
    lost = len(info["missing_keys"])
    if lost:
        raise ValueError(f"{folder} lacks {lost} weights of a CLIP model, which would be random")
    model: Any = found.eval().requires_grad_(False).to(device)

    @torch.no_grad()
    def similarity(images: Sequence[Image], prompts: Sequence[str]) -> list[float]:
        inputs = processor(text=list(prompts), images=list(images), return_tensors="pt", padding=True, truncation=True)
        embeds = model(**inputs.to(device))
        return torch.cosine_similarity(embeds.image_embeds, embeds.text_embeds).tolist()

    @torch.no_grad()
    def features(images: Sequence[Image]) -> list[list[Tensor]]:
        inputs = processor(images=list(images), return_tensors="pt").to(device)
        layers = model.vision_model(**inputs, output_hidden_states=True).hidden_states[1:]
        return [[layer[index] for layer in layers] for index in range(len(images))]

    return Clip(similarity, features, math.exp(float(model.logit_scale)))


def load_alexnet(path: str | Path) -> Features:
    """Load AlexNet's features from a file of torchvision's weights, on CUDA where there is one.

    Args:
        path: a `.pth`, of which only tensors are read, or a `.safetensors`, with the names of torchvision.

    Raises:
        ValueError: no such file, or the weights of another network.
    """
    from torchvision.models import alexnet

    tensors = {name.removeprefix("features."): tensor for name, tensor in _tensors(Path(path)).items()}
    with torch.device("meta"):
        network = alexnet().features
    try:
        network.load_state_dict({name: tensors[name] for name in network.state_dict()}, assign=True)
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{path} does not hold torchvision's AlexNet: {' '.join(str(error).split())[:300]}") from error
    network = network.float().eval().requires_grad_(False).to(_device())
    mean, std = (torch.tensor(values, device=_device()).view(3, 1, 1) for values in (_MEAN, _STD))

    def features_of(image: Image) -> list[Tensor]:
        from torchvision.transforms.functional import pil_to_tensor

        if min(image.size) < _SMALLEST:
            image = image.resize([round(side * _SMALLEST / min(image.size)) for side in image.size])
        values = ((pil_to_tensor(image).to(_device()) / 255 - mean) / std)[None]
        layers = []
        for place, layer in enumerate(network):
            values = layer(values)
            if place in _AFTER_RELU:
                layers.append(values[0].flatten(1).T.clone())  # the next layer may write into it
        return layers

    return torch.no_grad()(lambda images: [features_of(image) for image in images])


def _tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix not in (".pth", ".safetensors") or not path.is_file():
        raise ValueError(f"no weights at {path}; give torchvision's AlexNet as an existing .pth or .safetensors file")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    from pickle import UnpicklingError

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path} is damaged, or more than tensors: {' '.join(str(error).split())[:300]}") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ValueError(f"{path} holds no state dict; give torchvision's own file")
    return found


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
