"""Object detectors as differentiable critics: `load` one by name, ask it to `count`."""

from critics.base import Assessment, Candidates, Critic, Proposals
from critics.registry import available, load

__all__ = ["Assessment", "Candidates", "Critic", "Proposals", "available", "load"]
