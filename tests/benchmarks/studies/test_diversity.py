"""Distances between images of one prompt."""

import math

import pytest
import torch

import countgen
from benchmarks.studies import diversity


def test_equal_images_are_no_distance_apart_and_others_are(models: countgen.Models) -> None:
    black, white = torch.zeros(3, 128, 128), torch.ones(3, 128, 128)
    features, pixels = diversity.distances([black, black, white], models)  # pairs (0, 1), (0, 2), (1, 2)
    assert pixels == [0, 1, 1]
    assert features[0] == pytest.approx(0, abs=1e-6)
    assert 0 < features[1] <= 4
    assert math.isclose(features[1], features[2])


def test_a_mean_is_shown_with_its_change() -> None:
    assert diversity.shifted(1.0, 1.5, 0.25) == "1.500 (+2.00)"
    assert diversity.shifted(1.0, 1.5, 0.0) == "1.500"


def test_one_seed_has_no_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        diversity.main(["--seeds", "1"])
    assert "--seeds must be 2 or more" in capsys.readouterr().err
