"""Pictures that something else drew become a run like any other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from countgen import miniature
from countgen.app.cli import main
from countgen.benchmarks.evaluation.labels import questions
from countgen.benchmarks.evaluation.records import read_run
from countgen.benchmarks.miniature.world import Scene, load_sprites, render
from countgen.images import save_png
from countgen.miniature.world import OBJECT_NAMES

COUNTS = (3, 2)


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """Rendered scenes with three apples, two dogs, and a list that asks for three of each."""
    groups = ((OBJECT_NAMES.index("apple"), COUNTS[0]),), ((OBJECT_NAMES.index("dog"), COUNTS[1]),)
    scenes = [Scene(group, 0) for group in groups]
    images = render(scenes, load_sprites(), torch.Generator().manual_seed(1)).images
    (tmp_path / "pictures").mkdir()
    for number, image in enumerate(images):
        save_png(image, tmp_path / f"pictures/{number}.png")
    path = tmp_path / "mine.csv"
    path.write_text(
        "prompt,image,method,seconds\n"
        "three apples,pictures/0.png,a,1.5\n"
        "three dogs,pictures/1.png,,\n"
        "three dogs,pictures/1.png,b,\n"
    )
    return path


def command(listed: Path, *more: str) -> int:
    return main(
        ["eval", "--images", str(listed), "--out", str(listed.parent / "run"), "--judge", miniature.JUDGE, *more]
    )


def test_given_pictures_become_a_run(listed: Path) -> None:
    assert command(listed, "--model", "mine") == 0
    settings, records = read_run(listed.parent / "run")
    assert settings["methods"] == ["a", "given", "b"]
    assert [record.method for record in records] == ["a", "given", "b"]
    assert [record.judge_counts[miniature.JUDGE] for record in records] == [(3,), (2,), (2,)]
    assert [record.trace for record in records] == [((1, 1.5, True),), ((1, 0.0, False),), ((1, 0.0, False),)]
    assert all(record.critics == () and record.backbone == "mine" and record.level == "easy" for record in records)
    assert len(questions(listed.parent / "run", "anna")) == 3


def test_other_pictures_are_refused_in_the_same_folder(listed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(listed) == 0
    Image.new("RGB", (64, 64)).save(listed.parent / "pictures/0.png")
    assert command(listed) == 2
    assert "suite_sha256" in capsys.readouterr().err


def test_failed_pictures_are_judged_again_on_request_only(listed: Path) -> None:
    (listed.parent / "pictures/0.png").write_bytes(b"no picture")
    for retry, lines in (((), 3), ((), 3), (("--retry-failed",), 4)):
        assert command(listed, *retry) == 1
        assert len((listed.parent / "run" / "records.jsonl").read_bytes().splitlines()) == lines
    _, records = read_run(listed.parent / "run")
    assert [record.status for record in records] == ["failed", "done", "done"]
    assert "is not an image" in (records[0].error or "")


@pytest.mark.parametrize(
    ("arguments", "said"), [(["--judge", "nosuch"], "unknown detector 'nosuch'"), (["--threads", "0"], "threads")]
)
def test_bad_settings_are_refused_before_anything_is_written(
    listed: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert command(listed, *arguments) == 2
    assert said in capsys.readouterr().err
    assert not (listed.parent / "run").exists()


def test_a_judge_that_does_not_know_a_class_is_refused_before_the_first_image(
    listed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed.write_text(listed.read_text().replace("dogs", "butterflies"))
    assert command(listed, "--judge", "nanodet") == 2
    assert "has no class for 'butterfly'" in capsys.readouterr().err
    assert (listed.parent / "run" / "records.jsonl").read_bytes() == b""


def test_a_jpeg_and_a_picture_with_transparency_are_read(listed: Path) -> None:
    with PngImageFile(listed.parent / "pictures/0.png") as picture:
        picture.convert("RGBA").save(listed.parent / "pictures/1.png")
        picture.save(listed.parent / "pictures/2.jpg", quality=95)
    listed.write_text("prompt,image\nthree apples,pictures/1.png\nthree apples,pictures/2.jpg\n")
    assert command(listed) == 0
    _, records = read_run(listed.parent / "run")
    assert [record.judge_counts[miniature.JUDGE] for record in records] == [(3,), (3,)]


def test_several_pictures_of_a_prompt_are_told_apart_by_their_seeds(listed: Path) -> None:
    listed.write_text(
        "prompt,image,method\nthree apples,pictures/0.png,a\nthree apples,pictures/1.png,a\n"
        "three apples,pictures/0.png,a\nthree apples,pictures/1.png,b\n"
    )
    assert command(listed) == 0
    _, records = read_run(listed.parent / "run")
    assert [(record.method, record.seed) for record in records] == [("a", 0), ("a", 1), ("b", 0)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prompt\nthree apples\n", "is not an image"),
        ("prompt,image\nthree apples,pictures/9.png\n", "pictures/9.png' is not an image"),
        ("prompt,image\nthree apples,mine.csv\n", "name a file that ends in .bmp, .gif"),
        ("prompt,image,seconds\nthree apples,pictures/0.png,-1\n", "prompt 1: '-1' is not a number of seconds"),
        ("prompt,image,seconds\nthree apples,pictures/0.png,nan\n", "prompt 1: 'nan' is not a number of seconds"),
    ],
)
def test_a_bad_list_is_refused_before_anything_is_written(
    listed: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    listed.write_text(text)
    assert command(listed) == 2
    assert said in capsys.readouterr().err
    assert not (listed.parent / "run").exists()
