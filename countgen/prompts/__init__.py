"""Read English prompts: object classes with their counts, and where the text states them."""

from countgen.prompts.parser import parse, read, targets_from
from countgen.prompts.prompt import MAX_PROMPT_LENGTH, MAX_TARGET_COUNT, Prompt, Target, check_prompt
from countgen.prompts.words import OVERRIDE

__all__ = [
    "MAX_PROMPT_LENGTH",
    "MAX_TARGET_COUNT",
    "OVERRIDE",
    "Prompt",
    "Target",
    "check_prompt",
    "parse",
    "read",
    "targets_from",
]
