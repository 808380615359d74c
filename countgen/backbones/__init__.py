"""Frozen text-to-image pipelines, sampled with gradient; one file per family."""

from countgen.backbones.base import Backbone, Preset, PromptEmbeds
from countgen.backbones.registry import families, load, presets

__all__ = ["Backbone", "Preset", "PromptEmbeds", "families", "load", "presets"]
