"""Text from files and arguments is escaped and shortened before it is printed."""

import json
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace
from safetensors.torch import save_file

from countgen.app.cli import main
from countgen.app.terminal import fitted
from countgen.benchmarks.evaluation.json_lines import LineFile
from countgen.benchmarks.evaluation.plan import RunSettings
from countgen.benchmarks.evaluation.run_folder import RunFolder
from countgen.files.printable import MAX_LINE
from countgen.tokens.file import METADATA_KEY
from tests.app.conftest import Images, changed
from tests.benchmarks.evaluation.test_records import DONE, FAILED
from tests.faults.crash_consistency import settings

EVIL = "\x1b]0;owned\x07\x9b2J\u202eegami\r\n" + "long " * 5000
"""Control sequences that set the title, clear the screen and reverse the text direction, and a long text."""


@pytest.fixture(scope="module")
def asked() -> RunSettings:
    return settings(1)


def assert_harmless(text: str) -> None:
    """Assert that no line holds control characters or is too long."""
    assert text
    assert all(line.isprintable() for line in text.split("\n")), text[:2000]
    assert max(map(len, text.split("\n"))) <= MAX_LINE + 50


@pytest.mark.core
def test_a_line_of_a_command_is_escaped_and_a_path_is_not_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert_harmless(fitted(f"count: {EVIL}"))
    monkeypatch.setenv("COLUMNS", "20")
    assert (
        fitted("seven apples ->", path="my own images/an apple.png") == "seven apples ->\n  my own images/an apple.png"
    )


@pytest.mark.parametrize("arguments", [["report", EVIL], ["generate", "two cats", EVIL], [EVIL], ["label", EVIL]])
def test_an_argument_is_shown_escaped(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert_harmless(capsys.readouterr().err)


def test_a_recipe_is_shown_escaped(images: Images, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = changed(images["plain"], tmp_path, versions={"torch": EVIL}, candidate_seed=99)
    assert main(["reproduce", str(path)]) == 1
    shown = capsys.readouterr().out
    assert "generated with torch" in shown
    assert_harmless(shown)
    assert max(map(len, shown.splitlines())) < 200
    for field in ("backbone", "repository", "dtype", "prompt", "changed_parts", "token"):
        assert main(["reproduce", str(changed(images["plain"], tmp_path, **{field: EVIL}))]) == 2
        assert_harmless(capsys.readouterr().err)


def test_the_metadata_of_a_token_is_shown_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = {"schema": 1, "placeholder_token": EVIL, EVIL: EVIL}
    for document in (said, {"schema": EVIL}, said | {"target_count": EVIL}):
        save_file({"clip_l": torch.zeros(1, 4)}, tmp_path / "a.safetensors", {METADATA_KEY: json.dumps(document)})
        assert main(["generate", "two cats", "--token", str(tmp_path / "a.safetensors"), "--out", str(tmp_path)]) == 2
        assert_harmless(capsys.readouterr().err)


def test_a_run_folder_is_shown_escaped(tmp_path: Path, asked: RunSettings, capsys: pytest.CaptureFixture[str]) -> None:
    with RunFolder(tmp_path, asked):
        pass
    names = {"suite": EVIL, "backbone": EVIL, "method": EVIL, "judges": (EVIL,), "critics": (EVIL,), "prompt": EVIL}
    done = replace(DONE, **names, judge_counts={EVIL: (6, 1)}, boxes={}, confidence={})
    with LineFile(tmp_path, "records.jsonl") as file:
        file.append(done.to_line())
        file.append(replace(FAILED, **names, error=EVIL).to_line())
    assert main(["report", str(tmp_path), "--all"]) == 0
    assert_harmless(capsys.readouterr().out)
    assert main(["report", str(tmp_path), "--baseline", "none"]) == 2
    assert_harmless(capsys.readouterr().err)


def test_a_suite_is_shown_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for row in ({"prompt": EVIL}, {"prompt": "two cats", "targets": {EVIL: 0}}, EVIL, {"prompt": "a", EVIL: 1}):
        (tmp_path / "a.jsonl").write_text(json.dumps(row))
        assert main(["eval", "--suite", str(tmp_path / "a.jsonl"), "--out", str(tmp_path / "run")]) == 2
        assert_harmless(capsys.readouterr().err)


def test_labels_are_shown_escaped(tmp_path: Path, asked: RunSettings, capsys: pytest.CaptureFixture[str]) -> None:
    with RunFolder(tmp_path, asked) as folder, LineFile(folder.path, "records.jsonl") as file:
        file.append(DONE.to_line())
    label = {"schema": 1, "key": DONE.key, "labeller": EVIL, "counts": [6, 2]}
    (tmp_path / "labels.jsonl").write_text(json.dumps(label) + "\n")
    main(["label", str(tmp_path)])
    assert_harmless("".join(capsys.readouterr()))
    (tmp_path / "a.csv").write_text(f"image,object,count\n{DONE.image},\x1b[2Jcat,\x9b7\n")
    assert main(["label", str(tmp_path), "--read", str(tmp_path / "a.csv"), "--labeller", "anna"]) == 2
    assert_harmless(capsys.readouterr().err)
