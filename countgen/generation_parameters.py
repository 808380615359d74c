"""Generation parameters as text, in the form that AUTOMATIC1111's web UI writes into its images and others read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from countgen.errors import RecipeError
from countgen.prompts.plurals import counts_in_words
from countgen.recipe_fields import fields_of

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
        None for what is not a recipe that this version reads.

    Source: `parse_generation_parameters` in AUTOMATIC1111's `modules/infotext_utils.py`, and
    `automatic.metadata.ts` of Civitai, which asks for the last line to begin with "Steps: ".
    """
    try:
        fields = fields_of(recipe)
    except RecipeError:
        return None
    targets = {target.object_name: target.target_count for target in fields.targets}
    counts = fields.judge_counts or ()
    values = {
        "Steps": fields.num_inference_steps,
        "Sampler": SAMPLERS.get(fields.sampler or "", fields.sampler),
        "CFG scale": f"{fields.guidance_scale:g}",
        "Seed": fields.candidate_seed,
        "Size": f"{fields.width}x{fields.height}",
        "Model": fields.backbone,
        "Count": counts_in_words(counts, targets) if counts and len(counts) == len(targets) else None,
        "Version": f"countgen {(fields.versions or {}).get('countgen') or ''}",
    }
    # Readers disagree about quotes, so that values go without the characters that separate them.
    separators = str.maketrans(',:"', "   ")
    shown = {name: _one_line(str(value).translate(separators)) for name, value in values.items() if value is not None}
    # Without a line for the negative prompt, even an empty one, ComfyUI imports nothing.
    negative = f"Negative prompt: {_one_line(fields.negative_prompt or '')}"
    last = ", ".join(f"{name}: {value}" for name, value in shown.items())
    return "\n".join((_one_line(fields.prompt), negative, last))


def _one_line(text: str) -> str:
    """Return text without line breaks, which separate the fields."""
    return " ".join(text.split())
