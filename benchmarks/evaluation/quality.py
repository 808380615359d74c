"""Measure image quality with a CLIP model: similarity to the prompt and diversity between seeds.

No weights are embedded for this: give a local CLIP folder. Without one, the judge's confidence is the only measure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from benchmarks.evaluation.image_files import open_image
from benchmarks.evaluation.metrics import grouped
from benchmarks.evaluation.records import Record

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


@dataclass(frozen=True)
class Clip:
    """Two functions of a CLIP model.

    Attributes:
        similarity: cosine of each image and its prompt, (N,) in [-1, 1].
        features: per image, its features at several layers, each (positions, channels), any float dtype.
    """

    similarity: Callable[[Sequence[Image], Sequence[str]], list[float]]
    features: Callable[[Sequence[Image]], list[list[Tensor]]]


@dataclass(frozen=True)
class Quality:
    """The quality of the images of a method.

    Attributes:
        images: number of evaluated images.
        similarity: mean CLIP cosine to the prompt; NaN without images.
        diversity: mean perceptual distance between seeds of one prompt; NaN where every prompt has one seed.
    """

    images: int
    similarity: float
    diversity: float


def perceptual_distance(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """Return the distance of two images by their features, 0 for equal ones, at most 4.

    At each layer, features are normalised at every position, and squared differences are added over channels and
    averaged over positions; layers are averaged. The layers are not weighted by a fit to human judgements.

    Source: Zhang et al. 2018 (LPIPS), equation 1 with all weights 1.
    """
    from torch.nn.functional import normalize

    layers = [
        float((normalize(a.float(), dim=-1) - normalize(b.float(), dim=-1)).square().sum(-1).mean())
        for a, b in zip(first, second, strict=True)
    ]
    return fmean(layers)


def quality(records: Sequence[Record], image_path: Callable[[Record], Path | None], clip: Clip) -> Quality:
    """Return similarity and diversity of the images that exist.

    Args:
        records: of one method.
        image_path: function from a record to the path of its image, or None.
        clip: from `load_clip`.
    """
    similarities: list[float] = []
    distances: list[float] = []
    for prompt, mine in grouped(records, lambda record: record.prompt).items():
        paths = [path for record in mine if (path := image_path(record))]
        if not paths:
            continue
        images = []
        for path in paths:
            with open_image(path) as stored:
                images.append(stored.convert("RGB"))
        similarities += clip.similarity(images, [prompt] * len(images))
        if len(images) > 1:
            distances += [perceptual_distance(a, b) for a, b in combinations(clip.features(images), 2)]
    return Quality(
        images=len(similarities),
        similarity=fmean(similarities) if similarities else math.nan,
        diversity=fmean(distances) if distances else math.nan,
    )


def load_clip(folder: str | Path) -> Clip:
    """Load a CLIP model and its processor from a local folder in transformers' format, on the CPU.

    Raises:
        ValueError: no such folder.
        OSError: the folder holds no such model.
    """
    if not (Path(folder) / "config.json").is_file():  # transformers would search for it on the hub
        raise ValueError(f"{folder} holds no CLIP model; give a local folder with config.json and safetensors weights")
    import torch
    from transformers import CLIPModel, CLIPProcessor

    model = CLIPModel.from_pretrained(folder, use_safetensors=True, local_files_only=True, dtype=torch.float32).eval()
    processor = CLIPProcessor.from_pretrained(folder, local_files_only=True)

    @torch.no_grad()
    def similarity(images: Sequence[Image], prompts: Sequence[str]) -> list[float]:
        inputs = processor(text=list(prompts), images=list(images), return_tensors="pt", padding=True, truncation=True)
        found = model(**inputs)
        return torch.cosine_similarity(found.image_embeds, found.text_embeds).tolist()

    @torch.no_grad()
    def features(images: Sequence[Image]) -> list[list[Tensor]]:
        inputs = processor(images=list(images), return_tensors="pt")
        layers = model.vision_model(**inputs, output_hidden_states=True).hidden_states[1:]
        return [[layer[index] for layer in layers] for index in range(len(images))]

    return Clip(similarity, features)
