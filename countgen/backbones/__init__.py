"""Frozen text-to-image pipelines that are sampled with gradient; one file per model family."""

from countgen.backbones.base import Backbone
from countgen.backbones.preset import Preset
from countgen.backbones.prompt_embeds import PromptEmbeds
from countgen.backbones.registry import families, presets

__all__ = ["Backbone", "Preset", "PromptEmbeds", "families", "load", "presets"]

from countgen.backbones.assembly import load
