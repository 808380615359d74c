"""The algorithm on one page, docs/count_nano.py, does what the package does."""

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from countgen import Target, backbones
from countgen.methods.acceptance import Acceptance, Evidence
from countgen.methods.auto import AutoSettings, auto
from countgen.methods.problem import Problem
from countgen.methods.step import Budget
from countgen.models import load_critic


class SafeOnAllViews(Acceptance, frozen=True):
    """Nano's rule: an image is accepted if its margin is at least 1 on all views."""

    def probability(self, evidence: Evidence, margins: Tensor, *_: Any, **__: Any) -> Tensor:
        safe = (50 * (margins.amin(1) - 1)).sigmoid()
        return safe if evidence is self.views else torch.full_like(safe, 0.45)  # undecided before all views are known


@pytest.fixture
def nano(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "docs")
    return import_module("count_nano")


@pytest.mark.parametrize(
    ("prompt", "target", "num_seeds", "phase"),
    [
        ("a photo of eight apples", Target("apple", 8), 12, "search"),
        ("a photo of nine birds", Target("bird", 9), 2, "refine"),
    ],
)
def test_the_page_accepts_the_same_seed_as_the_package(
    nano: ModuleType, monkeypatch: pytest.MonkeyPatch, prompt: str, target: Target, num_seeds: int, phase: str
) -> None:
    backbone, critic = backbones.load("miniature"), load_critic("miniature-yolo")
    assert nano.threshold == pytest.approx(critic.threshold_logit)
    with torch.no_grad():
        embeds = backbone.encode_prompt(prompt)
    problem = Problem(backbone, (critic,), (target,), embeds, acceptance=SafeOnAllViews(), sure=0.5)
    given = {"prompt": prompt, "object_name": target.object_name, "target_count": target.target_count}
    given["seeds_before_refinement"] = num_seeds
    for name, value in given.items():
        monkeypatch.setattr(nano, name, value)
    # Half an evaluation more, so that a margin just below 1 does not make `auto` refine earlier.
    settings = AutoSettings(refinement_cost=num_seeds + 0.5)
    *_, accepted = auto(problem, nano.first_seed, Budget(max_evaluations=100), settings)
    image, seed = nano.generate()
    assert accepted.confirmed
    assert seed == accepted.seed
    assert accepted.phase == phase
    assert (image[0] - accepted.image).abs().max() < 0.01
