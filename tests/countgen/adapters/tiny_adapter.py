"""A noise adapter of the miniature with random weights, so that it moves something."""

import torch

from countgen.adapters.adapter import NoiseAdapter, built
from countgen.adapters.network import NetworkConfig


def tiny_adapter() -> NoiseAdapter:
    """Return the same adapter at every call."""
    config = NetworkConfig((4, 32, 32), (3, 6), prompt_dim=128, channels=8)
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: (0.1 * torch.randn(value.shape, generator=generator)).half()
        for name, value in built(config, "meta").state_dict().items()
    }
    return NoiseAdapter(
        config=config,
        weights=weights,
        base_model="miniature",
        revision=None,
        object_names=("apple", "dog"),
        critic="miniature-yolo",
        config_hash="0123456789abcdef",
        accuracy=0.5,
        plain_accuracy=0.25,
        licence="Apache-2.0",
    )
