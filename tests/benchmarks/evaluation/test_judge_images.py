"""Images from another source become a run like any other."""

import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from countgen import miniature
from countgen.app.cli import main
from countgen.benchmarks.evaluation.labels import questions
from countgen.benchmarks.evaluation.records import read_run
from countgen.benchmarks.evaluation.report.reported_run import read_reported_run


@pytest.fixture
def listed(judged_run: Path, tmp_path: Path) -> Path:
    """A list that asks for three apples each in images with three and with two."""
    (tmp_path / "pictures").mkdir()
    for name in ("0.png", "1.png"):
        shutil.copy(judged_run.parent / name, tmp_path / "pictures")
    path = tmp_path / "mine.csv"
    path.write_text(
        "prompt,image,method,seconds\n"
        "three apples,pictures/0.png,a,1.5\n"
        "3 apples,pictures/1.png,,\n"
        "3 apples,pictures/1.png,b,\n"
    )
    return path


def command(listed: Path, *more: str) -> int:
    return main(
        ["eval", "--images", str(listed), "--out", str(listed.parent / "run"), "--judge", miniature.JUDGE, *more]
    )


def test_given_images_become_a_run(listed: Path) -> None:
    assert command(listed, "--model", "mine") == 0
    settings, records = read_run(listed.parent / "run")
    assert settings["methods"] == [record.method for record in records] == ["a", "given", "b"]
    assert [record.judge_counts[miniature.JUDGE] for record in records] == [(3,), (2,), (2,)]
    assert [record.trace for record in records] == [((1, 1.5, True),), ((1, None, False),), ((1, None, False),)]
    assert [record.listed_as for record in records] == ["pictures/0.png", "pictures/1.png", "pictures/1.png"]
    assert all(record.critics == () and record.backbone == "mine" and record.level == "easy" for record in records)
    assert len(questions(listed.parent / "run", "anna")) == 3


def test_seconds_that_no_list_states_are_unknown_and_not_zero(listed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(listed) == 0
    run, page = str(listed.parent / "run"), listed.parent / "report.html"
    capsys.readouterr()
    assert main(["report", run, "--all", "--out", str(page)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^seconds +1\.50 +- +-$", printed, re.MULTILINE)
    assert re.search(r"so many seconds, %\n.*\n\d +100 +- +-$", printed, re.MULTILINE)
    assert "0.00 s" not in page.read_text()


def test_a_folder_of_other_images_or_judges_says_which_of_them_changed(
    listed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(listed) == 0
    assert command(listed, "--judge", "miniature-yolo") == 2
    Image.new("RGB", (64, 64)).save(listed.parent / "pictures/0.png")
    assert command(listed) == 2
    judges, images = capsys.readouterr().err.splitlines()
    assert "judges (there ['miniature-fcos'], now ['miniature-fcos', 'miniature-yolo'])" in judges
    assert "suite" not in judges
    assert "suite_sha256" in images


def test_shards_of_a_list_hold_each_image_once(listed: Path) -> None:
    rows = [f"three apples,pictures/0.png,method {number}" for number in range(6)]
    listed.write_text("\n".join(["prompt,image,method", *rows]))
    shards = [listed.parent / f"shard{part}" for part in (1, 2)]
    for part, out in enumerate(shards, start=1):
        assert command(listed, "--shard", f"{part}/2", "--out", str(out)) == 0
    methods = [record.method for out in shards for record in read_run(out)[1]]
    assert sorted(methods) == [f"method {number}" for number in range(6)]
    assert len(read_reported_run(shards).records) == 6


def test_failed_images_are_judged_again_on_request_only(listed: Path) -> None:
    (listed.parent / "pictures/0.png").write_bytes(b"no picture")
    for retry, lines in (((), 3), ((), 3), (("--retry-failed",), 4)):
        assert command(listed, *retry) == 1
        assert len((listed.parent / "run" / "records.jsonl").read_bytes().splitlines()) == lines
    _, records = read_run(listed.parent / "run")
    assert [record.status for record in records] == ["failed", "done", "done"]
    assert "is not an image" in (records[0].error or "")


def test_several_images_of_a_prompt_are_told_apart_by_their_seeds(listed: Path) -> None:
    listed.write_text(
        "prompt,image,method\nthree apples,pictures/0.png,a\nthree apples,pictures/1.png,a\n"
        "three apples,pictures/0.png,a\nthree apples,pictures/1.png,b\n"
    )
    assert command(listed) == 0
    _, records = read_run(listed.parent / "run")
    assert [(record.method, record.seed) for record in records] == [("a", 0), ("a", 1), ("b", 0)]
