"""Runs are real: the embedded models generate a few small images."""

import copy
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from countgen import CountGenError, Target
from countgen.app.cli import main
from countgen.benchmarks.evaluation.engines import local
from countgen.benchmarks.evaluation.plan import Case, RunSettings, cases, is_possible, suite_digest
from countgen.benchmarks.evaluation.records import read_run
from countgen.benchmarks.evaluation.run import Engine, evaluate
from countgen.benchmarks.evaluation.suites import Prompt
from countgen.benchmarks.evaluation.worker import Outcome, Worker, failed
from countgen.images import read_recipe
from tests.benchmarks.evaluation.made_records import comparable


@pytest.fixture(scope="module")
def worker(asked: RunSettings) -> Worker:
    return Worker(asked, "miniature")


def engine_of(worker: Worker, stop_after: int | None = None) -> Engine:
    """Return the local engine on models that are loaded already; it may stop early."""

    def attempts(cases: Sequence[Case], settings: RunSettings) -> Iterator[Outcome]:
        yield from map(worker.attempt, cases[:stop_after])
        if stop_after is not None:
            raise KeyboardInterrupt

    return attempts


@pytest.fixture(scope="module")
def finished(asked: RunSettings, worker: Worker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without interruption."""
    folder = tmp_path_factory.mktemp("finished")
    summary = evaluate(asked, folder, engine_of(worker), quiet=True)
    assert (summary.total, summary.done, summary.failed, summary.earlier) == (12, 8, 4, 0)
    return folder


def test_every_case_has_a_record_and_its_images(asked: RunSettings, finished: Path) -> None:
    settings, records = read_run(finished)
    assert settings["methods"] == list(asked.methods)
    assert [record.key for record in records] == [case.key for case in cases(asked)]
    failures = [record.error for record in records if record.status == "failed"]
    assert all("no class for 'unicorn'" in str(error) for error in failures)
    for record in (record for record in records if record.status == "done"):
        assert (record.seed, record.suite, record.level) == (4 + len(record.targets), "mine", "easy")
        recipe, counts = read_recipe(finished / str(record.image)), record.judge_counts["miniature-fcos"]
        assert recipe["judge_counts"] == list(counts)
        assert recipe["counts"] == list(record.critic_counts)
        assert recipe["seed"] == record.seed
        assert (finished / str(record.before)).is_file()
        assert len(record.boxes["miniature-fcos"]) == sum(counts)
        assert (0.3 < record.confidence["miniature-fcos"] < 1) == (sum(counts) > 0)
        spent = [evaluations for evaluations, _, _ in record.trace]
        assert spent == sorted(spent)
        assert spent[-1] <= record.evaluations
        assert record.trace[-1][2] == (counts == tuple(target.target_count for target in record.targets))
        assert (record.image == record.before) == record.method.startswith("plain")


def test_an_interrupted_run_goes_on_and_ends_byte_equal(
    asked: RunSettings, worker: Worker, finished: Path, tmp_path: Path
) -> None:
    mine = replace(asked, methods=("plain", "search"))  # whose cases have the same keys as in the longer run
    for stop_after in (2, 3):
        with pytest.raises(KeyboardInterrupt):
            evaluate(mine, tmp_path, engine_of(worker, stop_after), quiet=True)
    assert evaluate(mine, tmp_path, engine_of(worker), quiet=True).earlier == 5
    uninterrupted = [record for record in read_run(finished)[1] if record.method in mine.methods]
    assert comparable(read_run(tmp_path)[1]) == comparable(uninterrupted)
    for name in {name for record in uninterrupted for name in (record.image, record.before) if name}:
        assert (tmp_path / name).read_bytes() == (finished / name).read_bytes()


def suite_of(asked: RunSettings, path: Path, *prompts: str, **changes: Any) -> RunSettings:
    """Settings of a run of other prompts."""
    path.write_text("\n".join(prompts))
    return replace(asked, suite=str(path), suite_sha256=suite_digest(str(path)), **changes)


def test_arms_and_settings_reach_the_method(asked: RunSettings, worker: Worker, tmp_path: Path) -> None:
    arm_names = ("search", "search+as-written", "noise", "plain+token", "auto+token")
    chosen = ("noise.num_optimization_steps=1",)
    own, changes = copy.copy(worker), {"methods": arm_names, "method_settings": chosen}
    own.settings = suite_of(asked, tmp_path / "a.txt", "fourteen apples", "two apples", **changes)
    chosen_cases = [one for one in cases(own.settings) if (one.prompt.total == 14) == one.method.startswith("search")]
    outcomes = {case.method: own.attempt(case) for case in chosen_cases}
    assert outcomes["search"].recipe["number_shifts"]
    assert not outcomes["search+as-written"].recipe.get("number_shifts")
    assert outcomes["noise"].recipe["settings"]["num_optimization_steps"] == 1
    assert "num_optimization_steps" not in outcomes["search"].recipe["settings"]
    plain, refined = (outcomes[f"{method}+token"] for method in ("plain", "auto"))
    assert plain.record.evaluations == 1 < refined.record.evaluations <= 6
    for one in (plain, refined):
        assert one.recipe["token"]["placeholder_token"] == "<count-2>"
        assert one.record.image != one.record.before
        assert one.record.objects_kept is not None


def test_what_no_token_is_shipped_for_is_no_case(asked: RunSettings, tmp_path: Path) -> None:
    both = ("plain", "plain+token")
    prompts = ("two apples", "three cats and two dogs", "eighteen apples")
    mine = suite_of(asked, tmp_path / "many.txt", *prompts, methods=both)
    assert [case.prompt.prompt for case in cases(mine) if not is_possible(case)] == list(prompts[1:])
    none = suite_of(asked, tmp_path / "b.txt", "eighteen apples", "three cats and two dogs", methods=both[1:])
    with pytest.raises(ValueError, match=r"none of the 2 .*one class, count-\d"):
        evaluate(none, tmp_path / "run", local.attempts)
    assert not (tmp_path / "run").exists()


def test_a_prompt_that_an_encoder_cuts_is_marked(asked: RunSettings, worker: Worker, finished: Path) -> None:
    assert {record.truncated for record in read_run(finished)[1] if record.method == "plain"} == {False, None}
    long = "two apples, " + "one beside the other, " * 8
    prompt = Prompt(long, (Target("apple", 2),), "mine")
    outcome = worker.attempt(replace(cases(asked)[0], prompt=prompt, method="plain"))
    assert outcome.record.truncated


def test_a_run_whose_every_image_fails_alike_stops_and_keeps_what_it_has(asked: RunSettings, tmp_path: Path) -> None:
    mine = replace(asked, suite="t2icountbench-miniature", suite_sha256=suite_digest("t2icountbench-miniature"))
    lost = RuntimeError("CUDA error: an illegal memory access was encountered")

    def broken(cases: Sequence[Case], settings: RunSettings) -> Iterator[Outcome]:
        return (failed(case, lost) for case in cases)

    with pytest.raises(CountGenError, match="20 images failed one after the other for the same reason: RuntimeError"):
        evaluate(mine, tmp_path, broken, quiet=True)
    assert len(read_run(tmp_path)[1]) == 20

    def flickering(cases: Sequence[Case], settings: RunSettings) -> Iterator[Outcome]:
        return (failed(case, RuntimeError(f"{number // 19}")) for number, case in enumerate(cases))

    assert evaluate(replace(mine, limit=10), tmp_path / "other", flickering, quiet=True).failed == 40


def test_eval_command_runs_resumes_and_says_why_images_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "odd.txt"
    prompts.write_text("two apples\nfour unicorns\neighteen cats\n")
    arguments = ["eval", "--suite", str(prompts), "--methods", "plain,plain+token", "--out", str(tmp_path / "run")]
    arguments += ["--judge", "miniature-fcos", "--quiet", "--device", "cpu"]
    assert main(arguments) == 1
    printed = capsys.readouterr().out
    assert "3 of 5 images are in" in printed
    assert "1 more are not in the run" in printed
    assert re.search(r"^  2 x ValueError: .*unicorn", printed, re.MULTILINE)
    assert main(arguments) == 1
    assert "5 were there before" in capsys.readouterr().out
    assert main([*arguments, "--methods", "noise", "--set", "noise.learning_rate=0.1"]) == 2
    assert "method_settings (there [], now ['noise.learning_rate=0.1'])" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path / "run")) == ["images", "lock", "records.jsonl", "settings.json"]
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["suite"] == str(prompts)
