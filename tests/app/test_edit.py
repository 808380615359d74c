"""`countgen edit` takes everything but the counts from the recipe inside the image."""

import json
from pathlib import Path

import pytest
import torch

import countgen
from app.cli import main
from countgen.images import read_recipe, save_png


@pytest.fixture(scope="module")
def original(models: countgen.Models, tmp_path_factory: pytest.TempPathFactory) -> Path:
    result = countgen.generate("a photo of five cats", models, method="plain", seed=3)
    return save_png(result.image, tmp_path_factory.mktemp("original") / "cats.png", result.recipe)


def test_an_edit_is_written_beside_its_original_and_can_be_reproduced_and_edited(
    original: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["edit", str(original), "cats=4", "--max-evaluations", "4", "--json"])
    record = json.loads(capsys.readouterr().out)
    edited = original.with_name("cats-edited.png")
    assert code == (0 if record["verified"] else 1)
    assert (record["before"], record["after"]) == (str(original), str(edited))
    assert (record["targets"], record["prompt"]) == ({"cat": 4}, "a photo of four cats")
    assert (record["method"], record["seed"]) == ("edit", 3)
    assert record["evaluations"] <= 4
    assert 0 <= record["objects_kept"] <= 1
    assert main(["reproduce", str(edited)]) == 0
    assert main(["edit", str(edited), "cat=5", "--max-evaluations", "1", "--quiet"]) in (0, 1)
    assert read_recipe(original.with_name("cats-edited-edited.png"))["prompt"] == "a photo of five cats"


def test_text_says_what_was_kept(original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["edit", str(original), "cat=5", "--max-evaluations", "1", "--out", str(tmp_path / "same.png")])
    output = capsys.readouterr().out
    assert "100% of the objects kept, background changed by 0.000 (edit)" in output
    assert str(tmp_path / "same.png") in output


BAD_INPUT = [
    (["dog=3"], "generated with cat=5, got 'dog'"),
    (["unicorn=3"], "no class for 'unicorn'"),
    (["cat=301"], "returns at most 300 objects"),
    (["cat=0"], "from 1 to 1000"),
    (["cat"], "write NAME=COUNT"),
    (["cat=4", "--set", "speed=3"], "unknown setting 'speed'"),
    (["cat=4", "--out", "a.jpg"], "must end in .png"),
]


def test_bad_input_is_one_line_and_exit_code_2(
    subtests: pytest.Subtests, original: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, reason in BAD_INPUT:
        with subtests.test(arguments=arguments):
            assert main(["edit", str(original), *arguments]) == 2
            errors = capsys.readouterr().err
            assert reason in errors
            assert len(errors.splitlines()) == 1


def test_an_image_without_a_recipe_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["edit", str(save_png(torch.zeros(3, 8, 8), tmp_path / "a.png")), "cat=3"]) == 2
    assert "holds no recipe" in capsys.readouterr().err
    assert main(["edit", str(tmp_path / "none.png"), "cat=3"]) == 2
    assert "No such file or directory" in capsys.readouterr().err
