"""The golden set is chosen from runs without duplicates, and counted blind."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

from PIL import Image

from benchmarks.evaluation.records import IMAGES, RECORDS, SETTINGS, RecordFile, read_run
from benchmarks.studies.golden_set import main
from countgen.prompts import Target
from tests.benchmarks.evaluation.made_records import record

ARMS = ("plain", "edit", "search", "auto")


def made_run(folder: Path) -> Path:
    """Three prompts by four arms; the edited image of a prompt is its plain one."""
    (folder / IMAGES).mkdir(parents=True)
    (folder / SETTINGS).write_text(json.dumps({"suite": "two-classes", "methods": list(ARMS)}))
    with RecordFile(folder / RECORDS) as file:
        for seed in range(3):
            for arm in ARMS:
                key = f"{arm}-{seed}"
                colour = random.Random(f"{seed}/{'plain' if arm == 'edit' else arm}").randbytes(3)
                Image.new("RGB", (16, 16), tuple(colour)).save(folder / IMAGES / f"{key}.png")
                targets = (Target("apple", 2), Target("dog", 1))
                found = {"critic_counts": (2, 1), "judge_counts": {}, "confidence": {}, "boxes": {}}
                name = f"{IMAGES}/{key}.png"
                made = record(
                    arm, seed, key=key, suite="two-classes", targets=targets, image=name, before=name, **found
                )
                file.append(made)
    return folder


def test_no_image_is_taken_twice_and_prompts_are_used_evenly(tmp_path: Path) -> None:
    run, out = made_run(tmp_path / "run"), tmp_path / "set"
    assert main(["--set", str(out), "choose", str(run)]) == 0
    _, chosen = read_run(out)
    assert sorted(one.method for one in chosen) == sorted(ARMS)
    assert {one.seed for one in chosen} == {0, 1}  # of the first two prompts
    images = {Image.open(out / str(one.image)).tobytes() for one in chosen}
    assert len(images) == len(chosen)
    before = {path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    main(["--set", str(out), "choose", str(run)])
    assert before == {path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_contact_sheets_say_what_to_count_and_nothing_else(tmp_path: Path) -> None:
    run, out = made_run(tmp_path / "run"), tmp_path / "set"
    main(["--set", str(out), "choose", str(run)])
    assert main(["--set", str(out), "sheets", "--labeller", "anna", "--out", str(tmp_path / "sheets")]) == 0
    with (tmp_path / "sheets" / "sheet.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["object"] for row in rows] == ["apple", "dog"] * 4
    assert all(not row["count"] for row in rows)
    with Image.open(tmp_path / "sheets" / "sheet-01.png") as sheet:
        assert sheet.size == (3 * 520, 2 * 556)
