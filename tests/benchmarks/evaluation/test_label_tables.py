"""Counts by people from other sources become labels of a run's images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from countgen.app.cli import main
from countgen.benchmarks.evaluation.label_tables import Imported, import_labels
from countgen.benchmarks.evaluation.labels import Label, read_labels
from tests.benchmarks.evaluation.made_records import record, write_run

pytestmark = pytest.mark.core

GECKONUM = "image_id,model,question_id,question,prompt,annot_id,raw_answer,answer\n"
FIRST, SECOND, THIRD = (f"{number:032x}" for number in (1, 2, 3))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of given images, listed as GeckoNum lists its own; two objects are asked for in the second prompt."""
    listed = {FIRST: {"dog": 2}, SECOND: {"dog": 2, "cat": 3}, THIRD: {"dog": 4}}
    records = [
        record(
            key=key,
            seed=seed,
            wanted=wanted,
            listed_as=f"geckonum_0000{seed}_0.png",
            critic_counts=(),
            judge_counts={"detector": tuple(wanted.values())},
        )
        for seed, (key, wanted) in enumerate(listed.items())
    ]
    return write_run(tmp_path / "run", records)


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
    for saved, known in ((2, 0), (0, 2)):
        assert import_labels(run, path, "geckonum") == Imported(saved, known, ("geckonum_00009_0",), 2, 1)
        assert set(read_labels(run)) == {Label(FIRST, "geckonum", (2,)), Label(SECOND, "geckonum", (2, 4))}


def test_a_table_names_its_labellers_and_the_option_those_of_the_other_rows(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "truth.csv"
    path.write_text(
        "image,object,count,labeller\n"
        "geckonum_00000_0.png,dogs,2,ann\n"
        "geckonum_00000_0.png,dog,3,bob\n"
        f"images/{SECOND}.png,dog,2,ann\n"
        f"images/{SECOND}.png,cat,3,ann\n"
        "geckonum_00002_0.png,dog,-,bob\n"
    )
    assert main(["label", str(run), "--import", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["saved"] == 4
    with path.open("a") as file:
        file.write("geckonum_00002_0.png,dog,cannot be counted,\ngeckonum_00002_0.png,dog,5,\n")
    assert import_labels(run, path, "carl") == Imported(0, 4, (), 1, 1)
    assert set(read_labels(run)) == {
        *(Label(FIRST, "ann", (2,)), Label(FIRST, "bob", (3,)), Label(SECOND, "ann", (2, 3))),
        Label(THIRD, "bob", (None,)),
    }


def test_images_are_found_by_their_paths_in_the_list(tmp_path: Path) -> None:
    listed = {FIRST: "a/0000.png", SECOND: "b/0000.png", THIRD: "c/0001.png"}
    records = [record(key=key, seed=seed, listed_as=path) for seed, (key, path) in enumerate(listed.items())]
    run, truth = write_run(tmp_path / "run", records), tmp_path / "truth.csv"
    truth.write_text("image,object,count\n0001.png,apple,4\n0000.png,apple,3\n")
    with pytest.raises(ValueError, match=r"came with the name '0000.png'; give their paths in the list, such as a/0"):
        import_labels(run, truth, "ann")
    assert read_labels(run) == []
    rows = f"0001.png,apple,4\n./b/0000.png,apple,3\nimages/{FIRST}.png,apple,7\nx/0001.png,apple,9\n"
    truth.write_text("image,object,count\n" + rows)
    assert import_labels(run, truth, "ann") == Imported(3, 0, ("x/0001.png",), 0, 0)
    assert {label.key: label.counts for label in read_labels(run)} == {FIRST: (7,), SECOND: (3,), THIRD: (4,)}
