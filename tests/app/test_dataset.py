import json
from pathlib import Path

import pytest

from countgen.app.cli import main

LIGHT = ("--critic", "miniature-heatmap", "--judge", "miniature-fcos", "--device", "cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give --object NAME"),
        (["--object", "apple", "--count", "0"], "a count is a number from 1 to 100"),
        (["--object", "apple", "--count", "300"], "a count is a number from 1 to 100"),
        (["--object", "apple", "--template", "an apple"], "must hold {objects} once"),
        (["--object", "apple", "--split", "train"], "a split is NAME=FRACTION"),
        (["--object", "apple", "--split", "train=0.5"], "fractions that sum to 1"),
        (["--object", "apple", "--sure", "1"], "sure"),
        (["--object", "zebra"], "zebra"),
        (["--object", "apple", "--plan", "plan.yaml"], "--plan says everything; leave --object away"),
        (["--plan", "missing.yaml"], "missing.yaml"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["dataset", "--out", "set", *options, *LIGHT]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_writes_nothing_and_a_run_says_which_cell_is_short(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tmp_path / "plan.json"
    groups = [{"objects": {"apple": 1}}, {"objects": {"apple": 30}, "max_seeds": 1}]
    plan.write_text(json.dumps({"groups": groups, "splits": {"train": 1.0}}))
    words = ["dataset", "--plan", str(plan), "--out", str(tmp_path / "set"), *LIGHT]
    assert main([*words, "--dry-run", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["cell"] for row in rows["cells"]] == ["a photo of one apple", "a photo of thirty apples"]
    assert rows["all"]["images"] == 2
    assert not (tmp_path / "set").exists()
    assert main(words) == 1
    shown = capsys.readouterr().out
    assert "1 of 2 images from 2 seeds" in shown
    assert "short: a photo of thirty apples: 0 of 1 images from 1 seeds" in shown
    # The plan in the folder is a plan.
    words[2] = str(tmp_path / "set" / "plan.json")
    assert main([*words, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["images"] == 1
