"""`countgen generate` reaches counts and writes both images, under names that harm nothing."""

import os
import re
from pathlib import Path

import pytest
from PIL import Image

from countgen.app.cli import main
from countgen.app.file_names import slug
from countgen.app.generate import seeds_in
from countgen.images import read_recipe
from tests.app.conftest import Answer

core = pytest.mark.core


def test_generate_reaches_the_count_and_writes_both_images(tmp_path: Path, answer: Answer) -> None:
    code, output = answer("generate", "a photo of two apples", "--seed", "0-1", "--out", tmp_path)
    assert [image["seed"] for image in output["images"]] == [0, 1]
    assert code == (0 if output["right"] == 2 else 1)
    for image in output["images"]:
        recipe = read_recipe(image["after"])
        assert image["targets"] == {"apple": 2}
        assert image["verified"] == (image["judge_counts"] == [2])
        assert recipe["prompt"] == "a photo of two apples"
        assert recipe["judge_counts"] == image["judge_counts"]
        before = read_recipe(image["before"])
        assert before["method"] == "plain"
        assert before["candidate_seed"] == image["seed"]
        assert "judge_counts" not in before
    assert sorted(os.listdir(tmp_path)) == [
        f"a-photo-of-two-apples-{seed}-{when}.png" for seed in (0, 1) for when in ("after", "before")
    ]


def test_a_random_seed_a_grid_and_names_by_a_template(tmp_path: Path, answer: Answer) -> None:
    options = ["--method", "plain", "--seed", "-1", "--images", "3", "--grid", "--name", "{counts}_{seed}"]
    code, output = answer("generate", "two cats", *options, "--out", tmp_path)
    assert code in (0, 1)
    first, second, third = (image["seed"] for image in output["images"])
    assert (second, third) == (first + 1, first + 2)
    assert output["images"][0]["after"] == str(tmp_path / f"cat-2_{first}-after.png")
    with Image.open(output["grid"]) as grid, Image.open(output["images"][1]["after"]) as image:
        assert grid.size == (256, 256)
        assert grid.crop((128, 0, 256, 128)).tobytes() == image.tobytes()


def test_a_size_far_from_the_models_own_warns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for size, warned in (("64", True), ("128", False)):
        main(["generate", "two cats", "--method", "plain", "--out", str(tmp_path), "--size", size])
        assert ("warning: miniature is made for 128x128" in capsys.readouterr().err) == warned
    assert {path.stem.rpartition("-")[0] for path in tmp_path.iterdir()} == {"two-cats-0", "two-cats-0-2"}


def test_a_count_that_is_not_reached_is_exit_code_1_and_still_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["generate", "one cat", "--count", "cat=12", "--max-steps", "1", "--out", str(tmp_path)]
    assert main(arguments) == 1
    output = capsys.readouterr().out
    assert re.match(r"seed 0: \d+ of 12 cats \(judge.*\), \d+ cats? too few, after \d+ evaluations?, ", output)
    assert "  before: " in output
    assert len(os.listdir(tmp_path)) == 2
    with Image.open(tmp_path / "one-cat-0-after.png") as image:
        (seed,) = re.findall(r"Seed: (\d+)", image.info["parameters"])
    assert (f", found at seed {seed}" in " ".join(output.split())) == (seed != "0")


@core
def test_seeds_and_file_names() -> None:
    assert [seeds_in(text) for text in ("7", "0-3", "5-5")] == [[7], [0, 1, 2, 3], [5]]
    names = {
        "A photo of 7 apples!": "a-photo-of-7-apples",
        "🍎": "image",
        "../../etc": "etc",
        "a " * 90: "a-" * 29 + "a",
    }
    assert {text: slug(text) for text in names} == names
