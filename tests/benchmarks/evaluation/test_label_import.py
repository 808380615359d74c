"""Counts by people from other sources become labels of a run's images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from countgen import miniature
from countgen.app.cli import main
from countgen.benchmarks.evaluation.label_import import Imported, import_labels
from countgen.benchmarks.evaluation.labels import Label, read_labels
from countgen.benchmarks.evaluation.records import read_run
from countgen.images import save_png

GECKONUM = "image_id,model,question_id,question,prompt,annot_id,raw_answer,answer\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of given images, named as GeckoNum names its own; two objects are asked for in the second prompt."""
    folder = tmp_path_factory.mktemp("given")
    for number in range(3):
        save_png(torch.full((3, 64, 64), number / 4), folder / f"geckonum_0000{number}_0.png")
    (folder / "list.csv").write_text(
        "prompt,targets,image\n"
        "2 dogs.,dog=2,geckonum_00000_0.png\n"
        '2 dogs and 3 cats.,"dog=2,cat=3",geckonum_00001_0.png\n'
        "4 dogs.,dog=4,geckonum_00002_0.png\n"
    )
    arguments = [str(folder / "list.csv"), "--out", str(folder / "run"), "--judge", miniature.JUDGE]
    assert main(["eval", "--images", *arguments]) == 0
    return folder / "run"


@pytest.fixture(autouse=True)
def no_labels(run: Path) -> None:
    (run / "labels.jsonl").unlink(missing_ok=True)


def keys(run: Path) -> list[str]:
    return [record.key for record in read_run(run)[1]]


def test_geckonums_label_is_the_whole_number_of_more_than_half_of_its_annotators(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "task_1_muse_a.csv"
    dogs, cats = "How many dogs are in the image?", "How many cats are in the image?"
    answers = [
        *(("geckonum_00000_0", dogs, person, answer) for person, answer in zip("012", ("2", "2", "10+"), strict=True)),
        *(("geckonum_00001_0", dogs, person, answer) for person, answer in zip("012", ("2", "2.0", "2"), strict=True)),
        *(("geckonum_00001_0", cats, person, answer) for person, answer in zip("345", ("4", "4", "3"), strict=True)),
        *(("geckonum_00002_0", dogs, person, answer) for person, answer in zip("012", ("3", "4", "2-3"), strict=True)),
        ("geckonum_00009_0", dogs, "0", "7"),
    ]
    path.write_text(GECKONUM + "".join(f"{i},muse_a,0,{q},p,{person},{a},{a}\n" for i, q, person, a in answers))
    first, second, _ = keys(run)
    assert import_labels(run, path, "geckonum") == Imported(2, 0, ("geckonum_00009_0",), 2, 1)
    expected = {Label(first, "geckonum", (2,)), Label(second, "geckonum", (2, 4))}
    assert set(read_labels(run)) == expected
    assert import_labels(run, path, "geckonum") == Imported(0, 2, ("geckonum_00009_0",), 2, 1)
    assert set(read_labels(run)) == expected


def test_a_plain_table_keeps_the_people_apart(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "truth.csv"
    first, second, third = keys(run)
    path.write_text(
        "image,object,count,labeller\n"
        "geckonum_00000_0.png,dogs,2,ann\n"
        "geckonum_00000_0.png,dog,3,bob\n"
        f"images/{second}.png,dog,2,ann\n"
        f"images/{second}.png,cat,3,ann\n"
        "geckonum_00002_0.png,dog,cannot be counted,\n"
        "geckonum_00002_0.png,dog,-,bob\n"
    )
    assert main(["label", str(run), "--import", str(path), "--labeller", "ann", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["saved"] == 4
    assert set(read_labels(run)) == {
        *(Label(first, "ann", (2,)), Label(first, "bob", (3,)), Label(second, "ann", (2, 3))),
        Label(third, "bob", (None,)),
    }


def test_a_name_that_several_images_came_with_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["prompt,targets,image"]
    for number, place in enumerate(("a", "b", "c")):
        (tmp_path / place).mkdir()
        name = "0000" if number < 2 else "0001"
        save_png(torch.full((3, 64, 64), number / 4), tmp_path / place / f"{name}.png")
        rows.append(f"{number + 2} dogs.,dog={number + 2},{place}/{name}.png")
    (tmp_path / "list.csv").write_text("\n".join(rows))
    run = tmp_path / "run"
    assert main(["eval", "--images", str(tmp_path / "list.csv"), "--out", str(run), "--judge", miniature.JUDGE]) == 0
    truth = tmp_path / "truth.csv"
    truth.write_text("image,object,count\n0001.png,dog,4\nb/0000.png,dog,3\n")
    assert main(["label", str(run), "--import", str(truth), "--labeller", "ann"]) == 2
    assert "several images of" in " ".join(capsys.readouterr().err.split())
    assert read_labels(run) == []
    by_count = {record.targets[0].target_count: record for record in read_run(run)[1]}
    truth.write_text(f"image,object,count\n0001.png,dog,4\n{by_count[3].image},dog,3\n")
    assert import_labels(run, truth, "ann").saved == 2
    assert set(read_labels(run)) == {Label(by_count[4].key, "ann", (4,)), Label(by_count[3].key, "ann", (3,))}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,number\na.png,3\n", "expected the columns image, object, count; or image_id"),
        ("image,object,count\nelsewhere.png,dog,3\n", "no count for an image and an object of"),
        ("image,object,count\ngeckonum_00000_0.png,unicorn,3\n", "no count for an image and an object of"),
        ("", "got none"),
    ],
)
def test_what_does_not_fit_the_run_is_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    path = tmp_path / "truth.csv"
    path.write_text(text)
    assert main(["label", str(run), "--import", str(path), "--labeller", "ann"]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert read_labels(run) == []
    assert main(["label", str(run), "--import", str(path)]) == 2
    assert "--import need --labeller NAME" in " ".join(capsys.readouterr().err.split())
