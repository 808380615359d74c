"""Measure image quality with models of the user's: similarity to the prompt, diversity, preference, distance to plain.

No weights are embedded for this: `countgen.benchmarks.evaluation.quality_models` reads local ones. Statistics that
need none are in `countgen.benchmarks.evaluation.image_statistics`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from countgen.benchmarks.evaluation.image_statistics import plain_pairs
from countgen.benchmarks.evaluation.metrics import grouped
from countgen.benchmarks.evaluation.records import Record
from countgen.files.image_file import open_image

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

Features = Callable[["Sequence[Image]"], "list[list[Tensor]]"]
"""Features of each image at several layers, each (positions, channels), any float dtype."""


@dataclass(frozen=True)
class Clip:
    """Functions of a CLIP model.

    Attributes:
        similarity: cosine of each image and its prompt, (N,) in [-1, 1].
        features: of each image.
        scale: what the model multiplies cosines by before it compares images or texts, above 0.
    """

    similarity: Callable[[Sequence[Image], Sequence[str]], list[float]]
    features: Features
    scale: float = 100.0


@dataclass(frozen=True)
class QualityModels:
    """The models that a report measures with; None for a measure that is left out.

    Attributes:
        clip: for similarity and diversity.
        preference: a CLIP model that was trained on people's choices between two images, such as PickScore.
        network: features for the distance to the plain image.
    """

    clip: Clip | None = None
    preference: Clip | None = None
    network: Features | None = None


@dataclass(frozen=True)
class Quality:
    """The quality of the images of a method; NaN for what was not measured.

    Attributes:
        images: number of images with a similarity.
        similarity: mean CLIP cosine to the prompt.
        diversity: mean perceptual distance between seeds of one prompt, by the CLIP model; NaN where every prompt has
            one seed.
        pairs: number of images that differ from the plain image of their seed, and are compared with it.
        preferred: mean probability that people prefer the image to the plain one, by the preference model.
        distance: mean perceptual distance to the plain image.
    """

    images: int
    similarity: float
    diversity: float
    pairs: int
    preferred: float
    distance: float


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


def preference(clip: Clip, prompt: str, image: Image, other: Image) -> float:
    """Return the probability that an image is preferred to another one of the same prompt, in [0, 1].

    Source: Kirstain et al. 2023 (Pick-a-Pic, PickScore), equation 2: the softmax of the scaled cosines.
    """
    mine, its = clip.similarity([image, other], [prompt, prompt])
    return 1 / (1 + math.exp(-clip.scale * (mine - its)))


def quality(records: Sequence[Record], image_path: Callable[..., Path | None], models: QualityModels) -> Quality | None:
    """Return the quality of the images that exist; None without a model.

    Args:
        records: of one method.
        image_path: function from a record to the path of its image, or with `before=True` of the plain image.
        models: to measure with; those for pairs see at most `image_statistics.MOST_IMAGES`.
    """
    if models == QualityModels():
        return None
    similarities: list[float] = []
    diversities: list[float] = []
    preferred: list[float] = []
    distances: list[float] = []
    if models.clip is not None:
        for prompt, mine in grouped(records, lambda record: record.prompt).items():
            images = [open_image(path) for record in mine if (path := image_path(record))]
            if images:
                similarities += models.clip.similarity(images, [prompt] * len(images))
            if len(images) > 1:
                diversities += [perceptual_distance(a, b) for a, b in combinations(models.clip.features(images), 2)]
    pairs = plain_pairs(records, image_path) if models.preference or models.network else []
    for record, after, before in pairs:
        image, plain = open_image(after), open_image(before)
        if models.preference is not None:
            preferred.append(preference(models.preference, record.prompt, image, plain))
        if models.network is not None:
            distances.append(perceptual_distance(*models.network([image, plain])))
    return Quality(
        images=len(similarities),
        similarity=_mean(similarities),
        diversity=_mean(diversities),
        pairs=len(pairs),
        preferred=_mean(preferred),
        distance=_mean(distances),
    )


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else math.nan
