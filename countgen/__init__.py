"""Make text-to-image models generate the number of objects that the prompt asks for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from countgen import backbones, methods, prompts, tokens
    from countgen.benchmarks.evaluation.in_memory import evaluate
    from countgen.datasets import dataset
    from countgen.editing import edit
    from countgen.errors import CountGenError
    from countgen.methods.step import Budget, Step
    from countgen.models import Models, load
    from countgen.options import Options
    from countgen.prompts import Target, parse
    from countgen.result import Result
    from countgen.run import Run, generate, generate_batch
    from countgen.tokens import CountToken, available_tokens, find_token, load_token, save_token

__version__ = "0.1.0"
__all__ = [
    "Budget",
    "CountGenError",
    "CountToken",
    "Models",
    "Options",
    "Result",
    "Run",
    "Step",
    "Target",
    "available_tokens",
    "backbones",
    "dataset",
    "edit",
    "evaluate",
    "find_token",
    "generate",
    "generate_batch",
    "load",
    "load_token",
    "methods",
    "parse",
    "prompts",
    "save_token",
    "tokens",
]

_MODULES = {
    "errors": ("CountGenError",),
    "result": ("Result",),
    "options": ("Options",),
    "run": ("Run", "generate", "generate_batch"),
    "datasets": ("dataset",),
    "editing": ("edit",),
    "benchmarks.evaluation.in_memory": ("evaluate",),
    "models": ("Models", "load"),
    "prompts": ("Target", "parse"),
    "methods.step": ("Budget", "Step"),
    "tokens": ("CountToken", "available_tokens", "find_token", "load_token", "save_token"),
}
_PACKAGES = ("backbones", "critics", "methods", "prompts", "tokens")


def __getattr__(name: str) -> Any:
    # Imported on first use, so that `countgen --help` does not wait for torch and diffusers.
    if name in _PACKAGES:
        return importlib.import_module(f"countgen.{name}")
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"countgen.{module}"), name)
    raise AttributeError(f"module 'countgen' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
