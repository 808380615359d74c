"""Suites of prompts with known counts: shipped ones by name, other ones by path."""

from countgen.benchmarks.evaluation.suites.prompt import Prompt
from countgen.benchmarks.evaluation.suites.readers import available, load

__all__ = ["Prompt", "available", "load"]
