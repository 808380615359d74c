"""Object detectors as differentiable critics: `load` one by name, then call its `count` or `detect`."""

from typing import TYPE_CHECKING, Any

from countgen.critics.base import NO_ANSWER, Critic
from countgen.critics.candidates import Candidates, Proposals
from countgen.critics.detections import Detections
from countgen.critics.evaluation import Evaluation
from countgen.critics.registry import available, load

if TYPE_CHECKING:
    from countgen.critics.module_critic import from_module

__all__ = [
    "NO_ANSWER",
    "Candidates",
    "Critic",
    "Detections",
    "Evaluation",
    "Proposals",
    "available",
    "from_module",
    "load",
]


def __getattr__(name: str) -> Any:
    if name == "from_module":
        from countgen.critics.module_critic import from_module

        return from_module
    raise AttributeError(f"module 'critics' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
