import shutil
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

import countgen
from countgen.datasets import Group, Plan, dataset
from countgen.datasets.folder import Progress
from countgen.datasets.processes import Here
from countgen.datasets.run import outcomes
from countgen.datasets.sampler import Attempt, Outcome, Sampler
from countgen.errors import FolderInUseError
from countgen.files.folder import locked
from countgen.files.json_lines import read_lines
from tests.countgen.datasets.conftest import PLAN

JOURNAL = ("records.jsonl", "lock")
"""Files whose bytes depend on the order in which attempts finish, or on nothing."""


def content(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in JOURNAL]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_stopped_run_continues_to_the_same_bytes(
    finished: Path, light_models: countgen.Models, tmp_path: Path
) -> None:
    iterator = iter(dataset(PLAN, light_models, tmp_path / "set"))
    assert isinstance(iterator, Iterator)
    stopped = list(islice(iterator, 4))
    iterator.close()  # type: ignore[attr-defined]
    with (tmp_path / "set" / "records.jsonl").open("ab") as file:
        file.write(b'{"cell":0,"num')  # as a loss of power leaves it
    image = tmp_path / "set" / stopped[1].image
    image.rename(tmp_path / "taken away")
    with pytest.raises(ValueError, match=f"{image.name} is missing; put it back"):
        list(dataset(PLAN, light_models, tmp_path / "set"))
    (tmp_path / "taken away").rename(image)
    assert len(list(dataset(PLAN, light_models, tmp_path / "set"))) == PLAN.number_of_images - 4
    assert content(tmp_path / "set") == content(finished)
    assert (tmp_path / "set" / "records.jsonl").read_bytes() == (finished / "records.jsonl").read_bytes()


def test_several_processes_make_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    load = partial(countgen.load, "miniature", critics="miniature-heatmap", judge="miniature-fcos", device="cpu")
    assert len(list(dataset(PLAN, load, tmp_path / "set", workers=2))) == PLAN.number_of_images
    assert content(tmp_path / "set") == content(finished)


def test_what_is_wrong_with_models_reaches_the_caller_from_another_process(tmp_path: Path) -> None:
    load: Any = partial(int, "no models")
    with pytest.raises(ValueError, match="no models"):
        dataset(PLAN, load, tmp_path / "set", workers=2)


def test_a_cell_that_is_not_filled_is_short_and_rejected_images_say_why(
    light_models: countgen.Models, tmp_path: Path
) -> None:
    plan = Plan(groups=(Group(objects={"apple": 40}, max_seeds=1, images=2),), splits={"train": 1.0})
    images = dataset(plan, light_models, tmp_path / "set", keep_rejected=True)
    assert list(images) == []
    assert [(progress.images, progress.seeds) for progress in images.short] == [(0, 2)]
    attempts = list(read_lines(tmp_path / "set" / "records.jsonl", Attempt))
    assert all("P(right)" in attempt.reason and (tmp_path / "set" / attempt.image).exists() for attempt in attempts)
    assert "| 40 apples | a photo of {objects} | 2 | 0 | 2 | 2 |" in (tmp_path / "set" / "README.md").read_text()


def test_an_image_with_an_object_of_another_class_of_the_set_is_rejected(light_models: countgen.Models) -> None:
    with_another = Group(objects={"cat": 1}, templates=("{objects} and one apple",), sure=0.5)
    sampler = Sampler(Plan(groups=(with_another, Group(objects={"apple": 1})), splits={"train": 1.0}), light_models)
    attempt = sampler.attempt(next(sampler.plan.cells()), 0).attempt
    assert attempt.judge_counts == (1,)
    assert attempt.reason == "the critic counts 1 apple"
    assert attempt.boxes == ()


def test_folders_of_others_are_left_alone(finished: Path, light_models: countgen.Models, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(ValueError, match="is not a set of countgen"):
        list(dataset(PLAN, light_models, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]
    other = Plan(groups=PLAN.groups, splits=PLAN.splits, seed=5)
    with pytest.raises(ValueError, match="another plan \\(seed\\)"):
        list(dataset(other, light_models, finished))
    with locked(finished), pytest.raises(FolderInUseError):
        list(dataset(PLAN, light_models, finished))


def test_labels_of_a_person_bound_the_error(finished: Path, light_models: countgen.Models, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    shutil.copytree(finished, folder)
    assert "No image was labelled" in (folder / "README.md").read_text()
    right = {f"{sample.image},{name}": n for sample, name, n in _targets(folder)}
    lines = (folder / "labels.csv").read_text().splitlines()
    filled = [line + str(right[line.rstrip(",")]) for line in lines[1:]]
    (folder / "labels.csv").write_text("\n".join([lines[0], *filled]) + "\n")
    list(dataset(PLAN, light_models, folder))
    # 1 - 0.05 ** (1 / 10), the bound if none of ten is wrong
    assert "0 counts are wrong. With 95 % confidence at most 25.9 %" in (folder / "README.md").read_text()


def _targets(folder: Path) -> Iterator[tuple[Attempt, str, int]]:
    cells = list(PLAN.cells())
    for sample in read_lines(folder / "records.jsonl", Attempt):
        for name, n in cells[sample.cell].counts.items():
            yield sample, name, n


@pytest.mark.core
def test_near_duplicates_are_dropped_and_attempts_are_made_in_order_without_waste() -> None:
    plan = Plan(groups=(Group(objects={"cat": "1-3"}, images=4),), splits={"train": 1.0})
    cells, made = [Progress(cell) for cell in plan.cells()], list[tuple[int, int]]()

    def attempt(cell: Any, number: int) -> Outcome:
        made.append((cell.index, number))
        layout = f"{(number // 2) * 0x1111111111111111:016x}"  # two attempts have one layout
        record = Attempt(
            cell=cell.index, number=number, seed=0, seeds=1, probability=0.99, judge_counts=(1,), layout=layout
        )
        return Outcome(record, None, {})  # type: ignore[arg-type]

    for outcome in outcomes(cells, Here(), attempt, workers=3):
        progress = cells[outcome.attempt.cell]
        duplicate = progress.is_duplicate(outcome.attempt)
        assert outcome.attempt.number == progress.attempts
        progress.attempts, progress.seeds = progress.attempts + 1, progress.seeds + 1
        if not duplicate:
            progress.images += 1
            progress.layouts.append(int(outcome.attempt.layout, 16))
    assert [progress.images for progress in cells] == [4, 4, 4]
    assert sorted(made) == [(cell, number) for cell in range(3) for number in range(7)]
