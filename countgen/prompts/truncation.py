"""Whether a text encoder reads a prompt to the number it says: the end of a longer one is cut in silence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from countgen.errors import PromptError
from countgen.prompts import Target, parse
from countgen.prompts.placeholders import spelled_out


def check_is_read(prompt: str, targets: Sequence[Target], pipeline: Any, known_names: Sequence[str] | None) -> None:
    """Refuse a prompt whose targets are no longer said in the part that the pipeline's encoders read.

    Targets that the whole prompt does not say either, because the caller gave others, are the caller's own affair.

    Args:
        prompt: as it was given.
        targets: what is counted.
        pipeline: a stock one, with its tokenizers.
        known_names: as `parse` takes them.

    Raises:
        PromptError: some target lies in the part that is cut.
    """
    tokenizers = [part for name, part in pipeline.components.items() if name.startswith("tokenizer") and part]
    text = spelled_out(prompt)
    # Models with several encoders see what the longest one reads.
    read = max((_read_by(tokenizer, text) for tokenizer in tokenizers), key=len, default=text)
    if read == text or _said(text, known_names) != tuple(targets):
        return
    # The cut may leave a number without its noun behind them ("in two" of "in two rows").
    words = read.split(" ")
    if any(_said(" ".join(words[:end]), known_names) == tuple(targets) for end in range(len(words), 0, -1)):
        return
    limit = max(tokenizer.model_max_length for tokenizer in tokenizers)
    raise PromptError(
        f"this model reads {limit} tokens of a prompt, here as far as {read[-40:]!r}, and what is to be counted stands "
        "behind them; shorten the prompt, or say the numbers first"
    )


def _read_by(tokenizer: Any, text: str) -> str:
    """Return the longest beginning of a text, in whole words, that fits a tokenizer's limit."""
    words = text.split(" ")
    # `verbose`: the tokenizer itself would warn of every length that is tried.
    while len(tokenizer(" ".join(words), verbose=False).input_ids) > tokenizer.model_max_length and len(words) > 1:
        words.pop()
    return " ".join(words)


def _said(text: str, known_names: Sequence[str] | None) -> tuple[Target, ...] | None:
    try:
        return parse(text, known_names)
    except PromptError:
        return None
