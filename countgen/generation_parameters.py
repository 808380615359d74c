"""Generation parameters as text, in the form that AUTOMATIC1111's web UI writes into its images and others read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from countgen.prompts.plurals import counts_in_words

SAMPLERS = {
    "DDIMScheduler": "DDIM",
    "DPMSolverMultistepScheduler": "DPM++ 2M",
    "DPMSolverSinglestepScheduler": "DPM++ SDE",
    "EulerAncestralDiscreteScheduler": "Euler a",
    "EulerDiscreteScheduler": "Euler",
    "HeunDiscreteScheduler": "Heun",
    "KDPM2AncestralDiscreteScheduler": "DPM2 a",
    "KDPM2DiscreteScheduler": "DPM2",
    "LCMScheduler": "LCM",
    "LMSDiscreteScheduler": "LMS",
    "PNDMScheduler": "PLMS",
    "UniPCMultistepScheduler": "UniPC",
}
"""What the web UI calls the schedulers of diffusers, by the table in diffusers' documentation of schedulers."""


def as_text(recipe: Mapping[str, Any]) -> str | None:
    """Return the parameters of an image: the prompt, the negative prompt, and one line "Steps: 1, Sampler: Euler, ...".

    The seed is that of the image itself, and the web UI does not know latents that gradients have moved: what it
    generates from these parameters is another image. The recipe beside them generates the image again.

    Args:
        recipe: as `countgen.recipe.write` writes it.

    Returns:
        None for a recipe without a prompt, steps and a seed.

    Source: `parse_generation_parameters` in AUTOMATIC1111's `modules/infotext_utils.py`, and
    `automatic.metadata.ts` of Civitai, which asks for the last line to begin with "Steps: ".
    """
    if not all(name in recipe for name in ("prompt", "num_inference_steps", "candidate_seed")):
        return None
    sampler = recipe.get("sampler")
    fields = {
        "Steps": recipe["num_inference_steps"],
        "Sampler": SAMPLERS.get(sampler, sampler) if isinstance(sampler, str) else None,
        "CFG scale": recipe.get("guidance_scale"),
        "Seed": recipe["candidate_seed"],
        "Size": f"{recipe['width']}x{recipe['height']}" if "width" in recipe and "height" in recipe else None,
        "Model": recipe.get("backbone"),
        "Count": _count(recipe),
        "Version": _version(recipe),
    }
    last = ", ".join(f"{name}: {_value(value)}" for name, value in fields.items() if value is not None)
    # Without a line for the negative prompt, even an empty one, ComfyUI imports nothing.
    negative = f"Negative prompt: {_one_line(recipe.get('negative_prompt') or '')}"
    return "\n".join((_one_line(recipe["prompt"]), negative, last))


def _count(recipe: Mapping[str, Any]) -> str | None:
    """Return the judge's counts beside the target counts; None where the image was not judged."""
    try:
        targets = {one["object_name"]: one["target_count"] for one in recipe["targets"]}
        return counts_in_words(recipe["judge_counts"], targets)
    except (KeyError, TypeError, ValueError):
        return None


def _version(recipe: Mapping[str, Any]) -> str:
    versions = recipe.get("versions")
    return f"countgen {versions.get('countgen', '')}" if isinstance(versions, Mapping) else "countgen"


def _one_line(text: Any) -> str:
    """Return text without line breaks, which separate the fields, and half surrogate pairs, which PNG cannot hold."""
    return " ".join(str(text).encode("utf-8", "replace").decode().split())


def _value(value: Any) -> str:
    """Return a value without the characters that separate values: readers disagree about quotes."""
    return f"{value:g}" if isinstance(value, float) else _one_line(str(value).translate(_SEPARATORS))


_SEPARATORS = str.maketrans(',:"', "   ")
