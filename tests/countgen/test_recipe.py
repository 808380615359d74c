"""A recipe inside an image gives the same image again."""

from pathlib import Path

import pytest
import torch

import countgen
from countgen.errors import RecipeError
from countgen.images import read_png, save_png, to_pil
from countgen.recipe import check, load_backbone, plain, regenerate

pytestmark = pytest.mark.core

FIELDS = {
    *("schema", "prompt", "targets", "method", "settings", "seed", "until", "sure", "critics", "judge", "counts"),
    *(
        "judge_counts",
        "probability",
        "confirmed",
        "candidate_seed",
        "evaluations",
        "versions",
        "backbone",
        "repository",
        "revision",
    ),
    *("num_inference_steps", "guidance_scale", "sampler", "height", "width", "dtype", "memory", "draft"),
}


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
    assert recipe.keys() - {"latents"} == FIELDS | more.keys()
    assert ("latents" in recipe) == (result.phase != "search")
    backbone = load_backbone(recipe)
    again = regenerate(recipe, backbone)
    assert torch.equal(again, result.image)
    assert to_pil(again).tobytes() == image.tobytes()
    if not more:
        assert torch.equal(regenerate(plain(recipe), backbone), result.before)
    else:
        assert not torch.equal(regenerate({**recipe, "negative_prompt": "dogs"}, backbone), result.image)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"schema": 1}, "reads 2"),
        ({"candidate_seed": -1}, "candidate_seed"),
        ({"width": 10**6}, "width"),
        ({"num_inference_steps": 900}, "on request only"),
        ({"surprise": 1}, "unknown field `surprise`"),
        ({"repository": "owner/another"}, "may not name by itself"),
        (
            {"backbone": "sdxl-turbo", "repository": "stabilityai/sdxl-turbo", "revision": "main"},
            "40 hexadecimal digits",
        ),
        ({"loras": [{"name": "a", "weight": 1.0}]}, "the adapters"),
        ({"changed_parts": ["vae"]}, "another vae"),
        ({"latents": {"shape": [4, 2, 2], "float32": "AAAA"}}, "latents"),
        ({"token": {"placeholder_token": "<count-7>", "sha256": "0" * 64}}, "got no token"),
    ],
)
def test_a_recipe_that_cannot_or_must_not_be_rendered_is_an_error(
    changes: dict[str, object], word: str, light_models: countgen.Models
) -> None:
    recipe = countgen.generate("two cats", light_models, method="plain").recipe
    check(recipe)
    with pytest.raises(RecipeError, match=word):
        check(recipe | changes)
