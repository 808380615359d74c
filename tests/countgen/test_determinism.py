"""The same image from the same recipe, whatever the number of threads."""

from __future__ import annotations

import pytest
import torch

import countgen
from countgen.recipe import regenerate


@pytest.mark.core
def test_a_deterministic_image_does_not_depend_on_the_number_of_threads(light_models: countgen.Models) -> None:
    images = []
    for number in (1, 2, 4):
        torch.set_num_threads(number)
        run = countgen.Run(
            "a photo of nine cats", light_models, method="noise", seed=3, max_evaluations=8, deterministic=True
        )
        for _ in run:
            assert torch.get_num_threads() == number
            assert not torch.are_deterministic_algorithms_enabled()
        result = run.result()
        again = regenerate(result.recipe, light_models.backbone)
        assert torch.get_num_threads() == number
        images += [result.image, again]
    assert all(torch.equal(image, images[0]) for image in images)
    assert result.recipe["deterministic"]
