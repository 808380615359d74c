"""Other programs read prompt, seed, steps and model out of our images."""

from pathlib import Path

from PIL import Image

import countgen
from countgen.generation_parameters import as_text
from countgen.images import save_png
from countgen.recipe import plain


def fields(text: str) -> dict[str, str]:
    """The last line, read as the web UI's own readers do: names and values at colons, separated by commas."""
    return dict(field.split(": ", 1) for field in text.splitlines()[-1].split(", "))


def test_an_image_holds_its_parameters(models: countgen.Models, tmp_path: Path) -> None:
    result = countgen.generate("a photo of two cats", models, seed=3)
    with Image.open(save_png(result.image, tmp_path / "a.png", result.recipe)) as image:
        prompt, negative, last = image.info["parameters"].splitlines()
    assert (prompt, negative) == ("a photo of two cats", "Negative prompt: ")
    assert last.startswith("Steps: ")
    assert fields(last) == {
        "Steps": "1",
        "Sampler": "Euler a",
        "CFG scale": "0",
        "Seed": str(result.recipe["candidate_seed"]),
        "Size": "128x128",
        "Model": "miniature",
        "Count": f"{result.judge_counts[0]} of 2 cats",
        "Version": f"countgen {countgen.__version__}",
    }
    assert "Count" not in fields(as_text(plain(result.recipe)) or "")


def test_what_is_given_cannot_pass_for_another_field_and_other_dicts_have_none(models: countgen.Models) -> None:
    recipe = plain(countgen.generate("two cats", models, method="plain").recipe)
    text = as_text(recipe | {"prompt": "two cats\nSteps: 9", "negative_prompt": "blurry\n", "backbone": 'a, Seed: "1"'})
    assert text is not None
    assert text.splitlines()[:2] == ["two cats Steps: 9", "Negative prompt: blurry"]
    assert (fields(text)["Model"], fields(text)["Seed"]) == ("a Seed 1", "0")
    renamed = as_text(recipe | {"sampler": "FlowMatchEulerDiscreteScheduler"})
    assert fields(renamed or "")["Sampler"] == "FlowMatchEulerDiscreteScheduler"
    assert as_text({"prompt": "two cats"}) is None
