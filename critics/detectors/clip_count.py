"""CLIP-Count (Jiang et al. 2023): the density of anything a text names, as a critic for high counts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import interpolate

from countgen.critics import pretrained
from countgen.critics.detectors.density import DensityCritic
from countgen.critics.networks.clip_count import DENSITY_PER_OBJECT, DENSITY_SIZE, ClipCount, own_tensors
from countgen.critics.validation import to_batch
from countgen.critics.vocabulary import singular
from countgen.critics.weights import recorded_as

TOKENIZER = "openai/clip-vit-base-patch16"
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


def load(
    *,
    weights: str | Path,
    tokenizer: str = TOKENIZER,
    revision: str | None = None,
    device: torch.device | str = "cpu",
) -> ClipCountCritic:
    """Load a CLIP-Count critic.

    Args:
        weights: a checkpoint's state dict as `.safetensors`. Published ones are pickles; docs/critic-as-reward.md
            says how to convert one.
        tokenizer: CLIP's, a repository's name or a folder.
        revision: a branch, tag or commit of that repository.
        device: where it runs.

    Raises:
        ValueError: the file is missing, or holds something else.
    """
    path = Path(weights)
    if path.suffix != ".safetensors" or not path.is_file():
        raise ValueError(f"no CLIP-Count weights at {path}; give the path of an existing .safetensors file")
    from transformers import AutoTokenizer

    network = ClipCount(own_tensors(load_file(path))).to(device)
    tokens = pretrained.Source(tokenizer, {}, revision).read(AutoTokenizer)
    return ClipCountCritic(network, tokens, name=recorded_as("clip_count", path))


class ClipCountCritic(DensityCritic):
    """Counts by a density map of any object name; the text is embedded once.

    An image is stretched to the square the network sees. The published test protocol slides such squares over
    wide images instead.
    """

    family = "clip-count"

    def __init__(self, network: ClipCount, tokenizer: Any, *, name: str) -> None:
        self.counter = network.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.name = name
        self.object_names = None
        self._texts: dict[str, Tensor] = {}

    def text(self, object_name: str) -> Tensor:
        """Return the text embedding (1, 1, D) of an object name, singular or plural; computed once."""
        word = singular(object_name)
        if word not in self._texts:
            length = self.counter.context_length
            tokens = self.tokenizer([word], padding="max_length", max_length=length, truncation=True)["input_ids"]
            # OpenAI's tokenizer pads with 0, so that the end token is the highest wherever it stands.
            end = tokens[0].index(self.tokenizer.eos_token_id)
            tokens = torch.tensor([[*tokens[0][: end + 1], *[0] * (length - end - 1)]])
            with torch.no_grad():
                self._texts[word] = self.counter.text_encoder(tokens.to(self.counter.patch_emb_pos_embed.device))
        return self._texts[word]

    def maps(self, images: Tensor, object_names: Sequence[str]) -> Tensor:
        images = to_batch(images).to(self.dtype)
        for side in (DENSITY_SIZE, self.counter.image_size):
            images = interpolate(images, (side, side), mode="bilinear", antialias=True)
        # Channel by channel with plain numbers, which CUDA graphs can capture.
        channels = zip(images.unbind(1), _MEAN, _STD, strict=True)
        pixels = torch.stack([(channel - mean) / std for channel, mean, std in channels], 1)
        maps = [
            self.counter(pixels, self.text(name).to(pixels.dtype).expand(len(pixels), -1, -1)) for name in object_names
        ]
        density = torch.stack(maps, 1) / DENSITY_PER_OBJECT
        return density if density.dtype == torch.float64 else density.float()
