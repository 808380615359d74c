"""The miniature's PixArt model end to end."""

from __future__ import annotations

import pytest
import torch

import countgen


@pytest.fixture(scope="module")
def pixart() -> countgen.Models:
    return countgen.load("miniature-pixart", device="cpu")


def test_the_one_step_transformer_reaches_a_confirmed_count(pixart: countgen.Models) -> None:
    assert pixart.backbone.pipeline.scheduler.config.prediction_type == "v_prediction"  # of the checkpoint
    result = countgen.generate("a photo of four cats", pixart, seed=1, max_evaluations=200)
    assert result.confirmed
    assert result.counts == (4,)
    assert result.verified


def test_gradients_change_the_image_of_the_one_step_transformer(pixart: countgen.Models) -> None:
    result = countgen.generate("a photo of nine apples", pixart, method="noise", seed=2, max_evaluations=30)
    assert result.evaluations >= 3
    assert not torch.equal(result.image, result.before)
