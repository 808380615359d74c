"""Object detectors as differentiable critics: `load` one by name, ask it to `count`."""

from typing import TYPE_CHECKING, Any

from critics.base import Assessment, Candidates, Critic, Proposals
from critics.registry import available, load

if TYPE_CHECKING:
    from critics.module_critic import from_module

__all__ = ["Assessment", "Candidates", "Critic", "Proposals", "available", "from_module", "load"]


def __getattr__(name: str) -> Any:
    if name == "from_module":
        from critics.module_critic import from_module

        return from_module
    raise AttributeError(f"module 'critics' has no attribute {name!r}")
