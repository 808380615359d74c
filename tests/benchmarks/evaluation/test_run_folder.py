"""A run folder holds the results of one run, in use by one process, and a stopped run goes on where it stopped."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs
from PIL import Image

from countgen.benchmarks.evaluation.plan import Case, RunSettings, cases
from countgen.benchmarks.evaluation.records import PACKED, RECORDS, RunFolderError, read_run
from countgen.benchmarks.evaluation.run import evaluate
from countgen.benchmarks.evaluation.run_folder import RunFolder
from countgen.benchmarks.evaluation.worker import Outcome, case_fields, failed
from countgen.images import read_recipe
from tests.benchmarks.evaluation.test_records import DONE
from tests.faults.crash_consistency import settings

pytestmark = pytest.mark.core

PICTURE = Image.effect_noise((64, 64), 80).convert("RGB")


@pytest.fixture(scope="module")
def asked() -> RunSettings:
    return settings(4)


def outcome(number: int) -> Outcome:
    key = f"{number:032x}"
    record = structs.replace(DONE, key=key, image=f"images/{key}.png", before=f"images/{key}-before.png")
    return Outcome(record, PICTURE, PICTURE.copy(), {"seed": number}, os.getpid())


class Engine:
    """Makes an outcome of every case without a model; it may stop early, and its second case fails."""

    def __init__(self, stop_after: int = 1000) -> None:
        self.stop_after = stop_after
        self.done: list[str] = []

    def __call__(self, left: Sequence[Case], settings: RunSettings) -> Iterator[Outcome]:
        for case in left:
            if len(self.done) == self.stop_after:
                raise KeyboardInterrupt
            self.done.append(case.key)
            if case.key == cases(replace(settings, shard="1/1"))[1].key:
                yield failed(case, ValueError("made to fail"))
                continue
            image = f"images/{case.key}.png"
            changed = case_fields(case) | {"judge_counts": {}, "critic_counts": (), "boxes": {}}
            yield Outcome(structs.replace(DONE, **changed, image=image, before=image), PICTURE, None, {}, os.getpid())


def test_a_run_that_is_stopped_goes_on_and_does_no_case_twice(tmp_path: Path, asked: RunSettings) -> None:
    done = []
    for stop_after in (1, 2, 1000, 0):
        engine = Engine(stop_after)
        try:
            summary = evaluate(asked, tmp_path, engine, quiet=True)
        except KeyboardInterrupt:
            assert stop_after in (1, 2)
        done += engine.done
    assert done == [case.key for case in cases(asked)] == [record.key for record in read_run(tmp_path)[1]]
    assert [record.seed for record in read_run(tmp_path)[1]] == [0, 78, 157, 236]  # the places in the suite
    assert (summary.total, summary.done, summary.failed, summary.earlier) == (4, 3, 1, 4)
    again = Engine()
    assert evaluate(asked, tmp_path, again, retry_failed=True, quiet=True).earlier == 3
    assert again.done == done[1:2]
    (tmp_path / f"images/{done[2]}.png").unlink()
    (tmp_path / f"images/{done[3]}.png").write_bytes(bytes(500))  # as a power cut may leave it
    lost = Engine()
    assert len(evaluate(asked, tmp_path, lost, quiet=True).lost) == 2
    assert lost.done == done[2:]


def test_shards_that_are_put_together_are_the_whole_run(tmp_path: Path, asked: RunSettings) -> None:
    whole = tmp_path / "whole"
    (whole / "images").mkdir(parents=True)
    for shard in ("1/3", "2/3", "3/3"):
        part = tmp_path / shard[0]
        evaluate(replace(asked, shard=shard), part, Engine(), quiet=True)
        with (whole / RECORDS).open("ab") as together:
            together.write((part / RECORDS).read_bytes())
        for path in (part / "images").iterdir():
            path.rename(whole / "images" / path.name)
    settings_text = (tmp_path / "1" / "settings.json").read_text()
    (whole / "settings.json").write_text(settings_text.replace('"1/3"', '"1/1"'))
    assert evaluate(asked, whole, Engine(stop_after=0), quiet=True).earlier == 4


def test_settings_are_fixed_by_the_first_record_and_a_suite_is_known_by_its_content(
    tmp_path: Path, asked: RunSettings
) -> None:
    with RunFolder(tmp_path, replace(asked, max_evaluations=7)):
        pass
    asked = replace(asked, suite="prompts/mine.csv")
    with RunFolder(tmp_path, asked) as folder:  # there is no result yet
        folder.keep(outcome(1))
    stored, (record,) = read_run(tmp_path)
    assert stored["suite"] == asked.suite
    assert read_recipe(tmp_path / str(record.image)) == {"seed": 1}
    assert (tmp_path / str(record.before)).is_file()
    before = [(tmp_path / name).read_bytes() for name in ("settings.json", RECORDS)]
    changed = replace(asked, max_evaluations=7, methods=("plain", "auto"), suite="/home/anna/prompts/mine.csv")
    other = r"suite \(there 'prompts/mine.csv', now 'other.csv'\)"
    methods = r"methods \(there \['plain'\], now \['plain', 'auto'\]\), max_evaluations \(there 1, now 7\)"
    for now, differing in ((changed, methods), (replace(asked, suite="other.csv"), other)):
        with pytest.raises(RunFolderError, match=differing) as error, RunFolder(tmp_path, now):
            pass
        assert ("suite" in str(error.value)) == (now is not changed)
    assert [(tmp_path / name).read_bytes() for name in ("settings.json", RECORDS)] == before


def test_a_folder_that_cannot_hold_the_run_is_a_clear_error(tmp_path: Path, asked: RunSettings) -> None:
    with RunFolder(tmp_path, asked) as folder:
        folder.keep(outcome(1))
    (tmp_path / "settings.json").write_text("[1]")
    with pytest.raises(RunFolderError, match="readable settings"), RunFolder(tmp_path, asked):
        pass
    (tmp_path / PACKED).touch()
    with pytest.raises(RunFolderError, match="give another folder"), RunFolder(tmp_path, asked):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot write to the folder"), RunFolder(tmp_path / "file", asked):
        pass
