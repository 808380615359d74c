"""Noise adapters: small networks, trained once, that move initial latents so that counts are right more often."""

from countgen.adapters.adapter import NoiseAdapter
from countgen.adapters.file import load_adapter, save_adapter

__all__ = ["NoiseAdapter", "load_adapter", "save_adapter"]
