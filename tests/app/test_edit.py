"""`countgen edit` takes everything but the counts from the recipe inside the image."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from msgspec import to_builtins

import countgen
from countgen import miniature
from countgen.app.cli import main
from countgen.images import read_png, read_recipe, save_png
from countgen.number_slider import NumberShift
from tests.app.standard_error import errors_in


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
    (["cat=301"], "returns at most 300 objects"),
    (["cat"], "write NAME=COUNT"),
    (["cat=4", "--set", "speed=3"], "unknown setting 'speed'"),
    (["cat=4", "--out", "a.jpg"], "must end in .png"),
    (["cat=4", "--calibration", "none.json"], "No such file"),
]


def test_bad_input_is_one_line_and_exit_code_2(
    subtests: pytest.Subtests, original: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, reason in BAD_INPUT:
        with subtests.test(arguments=arguments):
            assert main(["edit", str(original), *arguments]) == 2
            (error,) = errors_in(capsys.readouterr().err)
            assert reason in error


def test_an_image_of_another_model_is_edited_as_it_was_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fine_tune = shutil.copytree(miniature.FOLDER / "mini-sdxl-turbo", tmp_path / "fine-tune")
    detectors = ["--critic", "miniature-yolo", "--judge", "miniature-fcos"]
    made_with = ["--model", str(fine_tune), *detectors]
    options = ["--num-inference-steps", "2", "--guidance-scale", "3", "--negative-prompt", "blurry"]
    main(["generate", "two cats", "--method", "plain", "--out", str(tmp_path), "--json", *made_with, *options])
    (written,) = json.loads(capsys.readouterr().out)["images"]
    edit = ["edit", written["after"], "cat=3", "--max-evaluations", "2", "--json"]
    assert main([*edit, *detectors]) == 2
    assert "on the command line --model" in capsys.readouterr().err
    assert main([*edit, *made_with]) in (0, 1)
    edited = Path(json.loads(capsys.readouterr().out)["after"])
    recipe = read_recipe(edited)
    assert (recipe["prompt"], recipe["negative_prompt"]) == ("three cats", "blurry")
    assert main(["reproduce", str(edited), "--model", str(fine_tune)]) == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"number_shifts": [{"offset": 10**400}]}, "number_shifts[0]"),
        ({"number_shifts": [to_builtins(NumberShift("cat", 11, 15, 5, 1e30, 2, 5))]}, "number_shifts[0]"),
        ({"targets": 3}, "targets: Expected"),
        ({"num_inference_steps": 1000}, "sampler steps"),
    ],
)
def test_a_recipe_is_checked_before_a_model_is_loaded(
    change: dict[str, object],
    reason: str,
    original: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def loading(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("countgen.backbones.load", loading)
    image, recipe = read_png(original)
    changed = save_png(image, tmp_path / "changed.png", recipe | change)
    for command in (["edit", str(changed), "cat=4"], ["reproduce", str(changed)])[: 1 if "targets" in change else 2]:
        assert main(command) == 2
        errors = capsys.readouterr().err
        assert reason in errors
        assert len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments", [["--critic", "unicorn:best.pt"], ["--critic", "miniature-yolo", "--judge", "miniature-yolo"]]
)
def test_detectors_are_checked_before_a_model_is_loaded(
    arguments: list[str], original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loading(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("countgen.backbones.load", loading)
    assert main(["edit", str(original), "cat=4", *arguments]) == 2


def test_trust_can_be_given_as_the_refusal_says(
    original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tmp_path / "other.pt"
    torch.save({"model": 3}, checkpoint)
    calibrate = ["calibrate", "--out", str(tmp_path / "a.json")]
    for command in (["edit", str(original), "cat=4"], calibrate):
        assert main([*command, "--critic", f"yolo:{checkpoint}"]) == 2
        assert "--trust-checkpoint" in capsys.readouterr().err
        assert main([*command, "--critic", f"yolo:{checkpoint}", "--trust-checkpoint"]) == 2
        assert "was trusted and gave no detector" in capsys.readouterr().err


def test_an_image_without_a_recipe_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["edit", str(save_png(torch.zeros(3, 8, 8), tmp_path / "a.png")), "cat=3"]) == 2
    assert "holds no recipe" in capsys.readouterr().err
    assert main(["edit", str(tmp_path / "none.png"), "cat=3"]) == 2
    assert "No such file or directory" in capsys.readouterr().err
