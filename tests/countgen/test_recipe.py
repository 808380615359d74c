"""A recipe inside an image gives the same image again."""

from pathlib import Path

import pytest
import torch

import countgen
from countgen.images import read_png, save_png, to_pil
from countgen.recipe import check, plain, regenerate

pytestmark = pytest.mark.core


@pytest.mark.parametrize(
    ("method", "more"), [("search", {}), ("noise", {}), ("plain", {"negative_prompt": "apples", "deterministic": True})]
)
def test_an_image_is_generated_again_from_the_recipe_in_its_file(
    method: str, more: dict[str, object], light_models: countgen.Models, tmp_path: Path
) -> None:
    models = light_models
    if "negative_prompt" in more:
        detectors = {"critics": models.critics, "judge": models.judge}
        models = countgen.load("miniature", guidance_scale=3.0, device="cpu", **detectors)
    result = countgen.generate("two cats", models, method=method, seed=3, max_evaluations=4, **more)
    image, recipe = read_png(save_png(result.image, tmp_path / "a.png", result.recipe))
    assert recipe == result.recipe
    assert ("latents" in recipe) == (result.phase != "search")
    backbone = check(recipe).load("cpu")
    again = regenerate(recipe, backbone)
    assert torch.equal(again, result.image)
    assert to_pil(again).tobytes() == image.tobytes()
    if not more:
        assert torch.equal(regenerate(plain(recipe), backbone), result.before)
    else:
        assert not torch.equal(regenerate({**recipe, "negative_prompt": "dogs"}, backbone), result.image)


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
