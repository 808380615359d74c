"""A count loss: the squared difference of soft count and target."""

from torch import Tensor

from countgen.critics.candidates import Candidates
from countgen.critics.losses import STEEPNESS
from countgen.critics.soft_indicator import soft_count


def squared(candidates: Candidates, target_count: int, threshold_logit: float, steepness: float = STEEPNESS) -> Tensor:
    """Return (soft count - target)^2, float32 (B,), with gradient."""
    return (soft_count(candidates, threshold_logit, steepness) - target_count).square()
