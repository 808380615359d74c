"""Check that a text encoder reads a prompt up to its last target; text encoders truncate without an error."""

from __future__ import annotations

from typing import Any

from countgen.errors import PromptError
from countgen.prompts.prompt import Prompt


def check_is_read(prompt: Prompt, pipeline: Any) -> None:
    """Check that an encoder of a diffusers pipeline reads everything that a prompt counts; other targets pass.

    Raises:
        PromptError: a target is in the truncated text.
    """
    beginning = prompt.text[: max((place.noun[1] for place in prompt.places), default=0)]
    # Of several encoders, the one that reads most counts.
    missing = {
        tokenizer.model_max_length: len(tokenizer(beginning, verbose=False).input_ids) - tokenizer.model_max_length
        for name, tokenizer in pipeline.components.items()
        if name.startswith("tokenizer") and tokenizer
    }
    if beginning and missing and min(missing.values()) > 0:
        raise PromptError(
            f"this model reads {max(missing)} tokens of a prompt, and the last object to count, in "
            f"{beginning[-40:]!r}, comes later; shorten the prompt, or put the numbers first"
        )
