"""Object detectors as differentiable critics: `load` one by name, then call its `count` or `detect`."""

from countgen.critics.base import NO_ANSWER, Critic
from countgen.critics.candidates import Candidates, Proposals
from countgen.critics.detections import Detections
from countgen.critics.evaluation import Evaluation
from countgen.critics.module_critic import from_module
from countgen.critics.registry import available, load
from countgen.critics.settings import CriticSettings

__all__ = [
    "NO_ANSWER",
    "Candidates",
    "Critic",
    "CriticSettings",
    "Detections",
    "Evaluation",
    "Proposals",
    "available",
    "from_module",
    "load",
]
