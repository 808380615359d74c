"""Check that a text encoder reads a prompt up to its last target; text encoders truncate without an error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from countgen.errors import PromptError
from countgen.prompts.parser import Target, parses_to
from countgen.prompts.placeholders import spelled_out


def check_is_read(prompt: str, targets: Sequence[Target], pipeline: Any, known_names: Sequence[str] | None) -> None:
    """Check that all targets of a prompt are in the text that the pipeline's encoders read.

    Targets that the whole prompt does not contain either, because the caller gave others, are not checked.

    Args:
        prompt: as given.
        targets: object classes and counts.
        pipeline: a diffusers pipeline with its tokenizers.
        known_names: as `parse` takes them.

    Raises:
        PromptError: a target is in the truncated text.
    """
    components = pipeline.components.items()
    tokenizers = [tokenizer for name, tokenizer in components if name.startswith("tokenizer") and tokenizer]
    text = spelled_out(prompt)
    # Of several encoders, the one that reads most counts.
    read = max((_read_by(tokenizer, text) for tokenizer in tokenizers), key=len, default=text)
    if read == text or not parses_to(text, targets, known_names):
        return
    # The truncated text may end in a number without its noun ("in two" of "in two rows").
    words = read.split(" ")
    if any(parses_to(" ".join(words[:end]), targets, known_names) for end in range(len(words), 0, -1)):
        return
    limit = max(tokenizer.model_max_length for tokenizer in tokenizers)
    raise PromptError(
        f"this model reads {limit} tokens of a prompt, here up to {read[-40:]!r}, and not all objects to count are in "
        "that part; shorten the prompt, or put the numbers first"
    )


def _read_by(tokenizer: Any, text: str) -> str:
    """Return the longest beginning of a text, in whole words, that fits a tokenizer's limit."""
    words = text.split(" ")
    # Without `verbose=False` the tokenizer would warn at every length that is tried.
    while len(tokenizer(" ".join(words), verbose=False).input_ids) > tokenizer.model_max_length and len(words) > 1:
        words.pop()
    return " ".join(words)
