"""A run goes out in GenEval's formats and comes back as it was."""

import json
from pathlib import Path

import pytest

from countgen import Target, miniature
from countgen.app.cli import main
from countgen.benchmarks.evaluation.records import read_run
from tests.benchmarks.evaluation.made_records import record, write_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    cases = [("plain", seed, asked) for asked in (2, 3) for seed in (5, 6)] + [("auto", 5, 3)]
    records = [
        record(method, seed, 3, asked, judge_counts={"detector": (3,), "counter": (asked,)})
        for method, seed, asked in cases
    ]
    return write_run(tmp_path / "run", [*records, record("plain", 9, None, asked=4)])


def test_genevals_layout_is_read_back_with_prompts_targets_and_seeds(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "geneval"
    assert main(["report", str(run), "--export", "geneval", "--method", "plain", "--out", str(out)]) == 0
    assert json.loads((out / "00000" / "metadata.jsonl").read_text()) == {
        "tag": "counting",
        "include": [{"class": "apple", "count": 2}],
        "exclude": [{"class": "apple", "count": 3}],
        "prompt": "a photo of 2 apples",
    }
    assert sorted(path.name for path in (out / "00001" / "samples").iterdir()) == ["0000.png", "0001.png"]
    (out / "00002").mkdir()
    (out / "00002" / "metadata.jsonl").write_text('{"tag": "colors", "prompt": "a red bus"}')
    assert main(["eval", "--images", str(out), "--out", str(tmp_path / "back"), "--judge", miniature.JUDGE]) == 0
    _, records = read_run(tmp_path / "back")
    read = [(one.prompt, one.targets, one.seed) for one in records]
    assert read == [(f"a photo of {n} apples", (Target("apple", n),), seed) for n in (2, 3) for seed in (0, 1)]


def test_what_geneval_cannot_find_right_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    targets = {"apple": 16, "mouse": 2}, {"apple": 17}, {"dragon": 2}, {"plane": 25}
    records = [
        record(seed=n, wanted=wanted, critic_counts=(1,) * len(wanted), judge_counts={"detector": (1,) * len(wanted)})
        for n, wanted in enumerate(targets)
    ]
    words = ["--export", "geneval", "--out", str(tmp_path / "out")]
    assert main(["report", str(write_run(tmp_path / "run", records)), *words]) == 0
    told = " ".join(capsys.readouterr().err.split())  # in as many lines as the terminal's width asks for
    assert told.startswith("GenEval's detector lacks dragon, plane:")
    assert told.endswith("keeps 16 boxes of a class: it finds every image with a target of 17, 25 wrong")


def test_geneval_2_gets_the_path_of_each_prompts_image(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "paths.json"
    assert main(["report", str(run), "--export", "geneval2", "--method", "plain", "--out", str(out)]) == 0
    paths = json.loads(out.read_text())
    assert set(paths) == {"a photo of 2 apples", "a photo of 3 apples"}
    assert Path(paths["a photo of 2 apples"]).name == "plain-2-5.png"
    assert all(Path(path).is_file() for path in paths.values())
