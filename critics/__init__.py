"""Object detectors as differentiable critics: `load` one by name, ask it to `count` or `detect`."""

from critics.base import Critic
from critics.candidates import Candidates, Proposals
from critics.detections import Detections
from critics.evaluation import Evaluation
from critics.registry import available, load

__all__ = ["Candidates", "Critic", "Detections", "Evaluation", "Proposals", "available", "load"]
