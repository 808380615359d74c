"""`countgen edit` takes everything but the counts from the recipe inside the image."""

import shutil
from pathlib import Path

import pytest

from countgen.app.cli import main
from countgen.images import read_recipe
from tests.app.conftest import Answer, Images


@pytest.mark.core
def test_an_edit_is_written_beside_its_original_and_can_be_reproduced_and_edited(
    images: Images, tmp_path: Path, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    original = Path(shutil.copy(images["plain"], tmp_path / "cats.png"))
    code, record = answer("edit", original, "cats=4", "--max-evaluations", "4")
    edited = original.with_name("cats-edited.png")
    assert code == (0 if record["verified"] else 1)
    assert (record["before"], record["after"]) == (str(original), str(edited))
    assert (record["targets"], record["prompt"]) == ({"cat": 4}, "a photo of four cats")
    assert (record["method"], record["seed"]) == ("edit", 0)
    assert record["evaluations"] <= 4
    assert 0 <= record["objects_kept"] <= 1
    assert answer("reproduce", edited)[0] == 0
    assert main(["edit", str(edited), "cat=5", "--max-evaluations", "1", "--quiet"]) in (0, 1)
    assert capsys.readouterr().out == ""
    assert read_recipe(original.with_name("cats-edited-edited.png"))["prompt"] == "a photo of five cats"


def test_text_says_what_was_kept(images: Images, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["edit", str(images["plain"]), "cat=5", "--max-evaluations", "1", "--out", str(tmp_path / "same.png")])
    output = capsys.readouterr().out
    assert "100% of the objects kept, background changed by 0.000 (edit)" in output
    assert str(tmp_path / "same.png") in output
