"""Parse English prompts into targets: object classes with their counts."""

from countgen.prompts.parser import MAX_PROMPT_LENGTH, MAX_TARGET_COUNT, Target, check_prompt, parse, targets_from
from countgen.prompts.words import OVERRIDE

__all__ = ["MAX_PROMPT_LENGTH", "MAX_TARGET_COUNT", "OVERRIDE", "Target", "check_prompt", "parse", "targets_from"]
