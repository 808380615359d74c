"""A critic: the embedded YOLO with a higher threshold."""

import torch

from countgen import miniature
from countgen.critics import Critic


def load(*, device: str | torch.device = "cpu") -> Critic:
    """Return the critic, called `sure_yolo`."""
    critic = miniature.load_detector("miniature-yolo", device)
    critic.configure(threshold=0.4)
    critic.name = "sure_yolo"
    return critic
