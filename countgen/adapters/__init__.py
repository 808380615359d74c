"""Noise adapters: small networks, trained once, that move initial latents so that counts are right more often."""

from countgen.adapters.adapter import NoiseAdapter
from countgen.adapters.file import load_adapter, save_adapter
from countgen.adapters.library import available_adapters, find_adapter

__all__ = ["NoiseAdapter", "available_adapters", "find_adapter", "load_adapter", "save_adapter"]
