"""Runs are real: the embedded models draw, few and small pictures."""

import argparse
import copy
import io
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from app.cli import main
from app.evaluate import add_arguments, settings_from
from benchmarks.evaluation import arms
from benchmarks.evaluation.engines import local
from benchmarks.evaluation.judges import judged, record_fields
from benchmarks.evaluation.plan import Case, RunSettings, adapter_digests, cases, left_out, recorded, suite_digest
from benchmarks.evaluation.progress import shown
from benchmarks.evaluation.records import read_run, table
from benchmarks.evaluation.run import evaluate
from benchmarks.evaluation.suites import Prompt
from benchmarks.evaluation.worker import Outcome, Worker, failed
from benchmarks.studies.crash_consistency import settings
from countgen import CountGenError, Models, Target, save_adapter
from countgen.images import read_recipe
from countgen.miniature import FOLDER
from critics.detectors.density import DensityCritic
from critics.networks.density import build
from tests.countgen.adapters.tiny_adapter import tiny_adapter


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("suite") / "mine.txt"
    path.write_text("two apples\na photo of three cats and two dogs\nfour unicorns\n")
    return str(path)


@pytest.fixture(scope="module")
def asked(suite: str) -> RunSettings:
    return replace(
        settings(1),
        suite=suite,
        suite_sha256=suite_digest(suite),
        limit=None,
        methods=("plain", "search", "noise", "grid"),
        max_evaluations=6,
        first_seed=5,
    )


@pytest.fixture(scope="module")
def worker(asked: RunSettings) -> Worker:
    return Worker(asked, "miniature")


class Engine:
    """The local engine on models that are loaded already; it may stop early."""

    def __init__(self, worker: Worker, stop_after: int = 1000) -> None:
        self.worker = worker
        self.stop_after = stop_after
        self.drawn: list[Case] = []

    def __call__(self, cases: Sequence[Case], settings: RunSettings) -> Iterator[Outcome]:
        for case in cases:
            if len(self.drawn) == self.stop_after:
                raise KeyboardInterrupt
            self.drawn.append(case)
            yield self.worker.attempt(case)


@pytest.fixture(scope="module")
def finished(asked: RunSettings, worker: Worker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without interruption."""
    folder = tmp_path_factory.mktemp("finished")
    summary = evaluate(asked, folder, Engine(worker), quiet=True)
    assert (summary.total, summary.done, summary.failed, summary.earlier) == (12, 8, 4, 0)
    return folder


def test_every_case_has_a_record_and_its_pictures(asked: RunSettings, finished: Path) -> None:
    found, records = read_run(finished)
    assert found["methods"] == list(asked.methods)
    assert [record.key for record in records] == [case.key for case in cases(asked)]
    for record in records:
        if record.status == "failed":
            assert record.error is not None
            assert "no class for 'unicorn'" in record.error
            continue
        assert record.seed == (5 if len(record.targets) == 1 else 6)
        assert record.suite == "mine"
        assert record.level == "easy"
        recipe = read_recipe(finished / str(record.image))
        assert recipe["judge_counts"] == list(record.judge_counts["miniature-fcos"])
        assert recipe["counts"] == list(record.critic_counts)
        assert recipe["seed"] == record.seed
        assert (finished / str(record.before)).is_file()
        assert len(record.boxes["miniature-fcos"]) == sum(record.judge_counts["miniature-fcos"])
        assert (0.3 < record.confidence["miniature-fcos"] < 1) == bool(record.boxes["miniature-fcos"])
        assert record.trace
        assert record.peak_bytes is None or record.peak_bytes > 50e6
        spent = [evaluations for evaluations, _, _ in record.trace]
        assert spent == sorted(spent)
        assert spent[-1] <= record.evaluations
        right = record.judge_counts["miniature-fcos"] == tuple(target.target_count for target in record.targets)
        assert record.trace[-1][2] == right
    plain = [record for record in records if record.method == "plain" and record.status == "done"]
    assert all(record.evaluations == 1 and record.image == record.before for record in plain)


def test_a_refined_prompt_is_drawn_and_the_original_is_recorded(finished: Path) -> None:
    _, records = read_run(finished)
    refined = next(record for record in records if record.method == "grid" and record.status == "done")
    assert refined.prompt == "two apples"
    assert read_recipe(finished / str(refined.image))["prompt"] != "two apples"


def test_the_same_command_again_draws_nothing(asked: RunSettings, worker: Worker, finished: Path) -> None:
    before = (finished / "records.jsonl").read_bytes()
    engine = Engine(worker)
    assert evaluate(asked, finished, engine, quiet=True).earlier == 12
    assert not engine.drawn
    assert (finished / "records.jsonl").read_bytes() == before


@pytest.mark.slow
def test_an_interrupted_run_goes_on_and_ends_byte_equal(
    asked: RunSettings, worker: Worker, finished: Path, tmp_path: Path
) -> None:
    mine = replace(asked, methods=("plain", "search"))  # whose cases have the same keys as in the longer run
    drawn: list[Case] = []
    for stop_after in (2, 3, 1000):
        engine = Engine(worker, stop_after)
        try:
            evaluate(mine, tmp_path, engine, quiet=True)
        except KeyboardInterrupt:
            assert stop_after < 1000
        drawn += engine.drawn
    assert [case.key for case in drawn] == [case.key for case in cases(mine)]
    uninterrupted = [record for record in read_run(finished)[1] if record.method in mine.methods]
    assert table(read_run(tmp_path)[1]) == table(uninterrupted)
    for name in {name for record in uninterrupted for name in (record.image, record.before) if name}:
        assert (tmp_path / name).read_bytes() == (finished / name).read_bytes()


def test_failed_cases_are_retried_on_request_only(asked: RunSettings, worker: Worker, tmp_path: Path) -> None:
    plain = replace(asked, methods=("plain",))
    evaluate(plain, tmp_path, Engine(worker), quiet=True)
    engine = Engine(worker)
    summary = evaluate(plain, tmp_path, engine, retry_failed=True, quiet=True)
    assert [case.prompt.prompt for case in engine.drawn] == ["four unicorns"]
    assert (summary.earlier, summary.failed) == (2, 1)
    assert len((tmp_path / "records.jsonl").read_bytes().splitlines()) == 4
    assert len(read_run(tmp_path)[1]) == 3


@pytest.mark.slow
def test_arms_with_a_token_generate_with_the_shipped_tokens(asked: RunSettings, worker: Worker, tmp_path: Path) -> None:
    settings = replace(asked, methods=("plain+token", "auto+token"), limit=1)
    assert evaluate(settings, tmp_path, Engine(worker), quiet=True).done == 2
    plain, refined = read_run(tmp_path)[1]
    assert (plain.method, plain.evaluations) == ("plain+token", 1)
    assert 1 < refined.evaluations <= 6
    for record in (plain, refined):
        assert read_recipe(tmp_path / str(record.image))["token"]["placeholder_token"] == "<count-2>"
        assert record.image != record.before


def test_an_arm_as_written_takes_no_number_slider(asked: RunSettings, worker: Worker, tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps({"prompt": "a photo of fourteen apples", "targets": {"apple": 14}}) + "\n")
    methods = ("search", "search+as-written")
    settings = replace(
        asked, suite=str(path), suite_sha256=suite_digest(str(path)), methods=methods, max_evaluations=1, limit=None
    )
    moved, written = (worker.attempt(case) for case in cases(settings))
    assert moved.recipe["number_shifts"]
    assert not written.recipe.get("number_shifts")
    for record in (moved.record, written.record):
        assert record.objects_kept is not None
        assert record.background_change is not None


def test_what_no_token_is_shipped_for_is_no_case(asked: RunSettings, tmp_path: Path) -> None:
    path = tmp_path / "many.txt"
    path.write_text("two apples\nthree cats and two dogs\ntwelve apples\n")
    mine = replace(asked, suite=str(path), suite_sha256=suite_digest(str(path)), methods=("plain", "plain+token"))
    assert [(case.method, case.prompt.prompt) for case in cases(mine) if case.method != "plain"] == [
        ("plain+token", "two apples")
    ]
    assert [case.prompt.prompt for case in left_out(mine)] == ["three cats and two dogs", "twelve apples"]
    parts = [replace(mine, shard=f"{k}/2") for k in (1, 2)]
    assert sum(len(left_out(part)) for part in parts) == 2
    assert sum(len(cases(part)) for part in parts) == 4


def test_a_run_without_any_image_is_refused(asked: RunSettings, tmp_path: Path, subtests: pytest.Subtests) -> None:
    path = tmp_path / "beyond.txt"
    path.write_text("eighteen apples\nthree cats and two dogs\n")
    adapter = (str(save_adapter(tiny_adapter(), tmp_path / "a.safetensors")),)
    for method, given, known in (
        ("plain+token", (), r"one class: count-\d"),
        ("plain+adapter", adapter, "counts from"),
    ):
        mine = replace(
            asked,
            **{"suite": str(path), "suite_sha256": suite_digest(str(path)), "methods": (method,), "limit": None},
            adapter=given,
            adapters=adapter_digests((method,), asked.backbones, given),
        )
        with subtests.test(method=method), pytest.raises(ValueError, match=f"none of the 2 .*asks for 18.*{known}"):
            evaluate(mine, tmp_path / "run", local.attempts)
    assert not (tmp_path / "run").exists()


def test_an_arm_with_an_adapter_is_compared_with_the_one_without(
    asked: RunSettings, worker: Worker, tmp_path: Path
) -> None:
    path = tmp_path / "several.txt"
    path.write_text("four apples\nnine apples\nthree cats and two dogs\n")
    file = (str(save_adapter(tiny_adapter(), tmp_path / "a.safetensors")),)
    methods = ("plain", "plain+adapter")
    given = {"suite": str(path), "suite_sha256": suite_digest(str(path)), "methods": methods, "max_evaluations": 1}
    mine = replace(asked, **given, adapter=file, adapters=adapter_digests(methods, asked.backbones, file))
    assert [case.prompt.prompt for case in left_out(mine)] == ["nine apples", "three cats and two dogs"]
    assert recorded(mine)["adapters"] == (tiny_adapter().sha256,)
    assert "adapter" not in recorded(mine)
    plain, moved = (case for case in cases(mine) if case.prompt.prompt == "four apples")
    assert plain.key in {case.key for case in cases(replace(mine, methods=("plain",), adapter=(), adapters=()))}
    own = copy.copy(worker)
    own.settings = mine
    without, with_it = own.attempt(plain), own.attempt(moved)
    assert with_it.record.status == "done"
    assert with_it.recipe["adapter"] == {"sha256": tiny_adapter().sha256}
    assert with_it.record.before != with_it.record.image
    assert with_it.before is not None
    assert with_it.before == without.image


def test_an_adapter_that_no_arm_uses_or_that_is_missing_is_refused(
    asked: RunSettings, subtests: pytest.Subtests
) -> None:
    for methods, given, reason in (
        (("plain",), ("a.safetensors",), "no method of the run uses the adapter 'a.safetensors'"),
        (("plain+adapter",), ("a", "b"), "one noise adapter is used at a time, got 2"),
        (("plain+adapter",), ("nothing",), "no adapter 'nothing'"),
    ):
        with subtests.test(reason=reason), pytest.raises(ValueError, match=reason):
            adapter_digests(methods, asked.backbones, given)
    assert "edit+adapter" not in arms.available()


def test_no_image_costs_more_evaluations_than_it_may(finished: Path) -> None:
    _, records = read_run(finished)
    assert {record.evaluations for record in records if record.method in ("search", "noise")} <= set(range(7))


def test_a_prompt_that_an_encoder_cuts_is_marked(asked: RunSettings, worker: Worker, finished: Path) -> None:
    assert {record.truncated for record in read_run(finished)[1] if record.method == "plain"} == {False, None}
    long = "two apples, " + "one beside the other, " * 8
    prompt = Prompt(long, (Target("apple", 2),), "mine")
    outcome = worker.attempt(Case("0" * 32, prompt, 1, "miniature", "plain"))
    assert outcome.record.truncated


def test_a_run_whose_every_image_fails_alike_stops_and_keeps_what_it_has(asked: RunSettings, tmp_path: Path) -> None:
    mine = replace(asked, suite="t2icountbench-miniature", suite_sha256=suite_digest("t2icountbench-miniature"))
    lost = RuntimeError("CUDA error: an illegal memory access was encountered")

    def broken(cases: Sequence[Case], settings: RunSettings) -> Iterator[Outcome]:
        return (failed(case, settings, lost) for case in cases)

    with pytest.raises(CountGenError, match="20 images failed one after the other for the same reason: RuntimeError"):
        evaluate(mine, tmp_path, broken, quiet=True)
    assert len(read_run(tmp_path)[1]) == 20

    def flickering(cases: Sequence[Case], settings: RunSettings) -> Iterator[Outcome]:
        for number, case in enumerate(cases):
            yield failed(case, settings, RuntimeError(f"{number // 19}"))

    small = replace(mine, limit=10)
    assert evaluate(small, tmp_path / "other", flickering, quiet=True).reasons == {
        "RuntimeError: 0": 19,
        "RuntimeError: 1": 19,
        "RuntimeError: 2": 2,
    }


def test_keys_name_what_decides_the_result(asked: RunSettings) -> None:
    def keys(**changes: object) -> set[str]:
        return {case.key for case in cases(replace(asked, **changes))}  # type: ignore[arg-type]

    everything = keys()
    assert len(everything) == 12
    assert keys(methods=("noise", "plain")) < everything
    assert keys(limit=1) < everything
    for changes in (
        {"max_evaluations": 7},
        {"max_seconds": 1.0},
        {"judges": ("miniature-heatmap",), "critics": ("miniature-yolo",)},
        {"code": "2"},
        {"threads": 2},
        {"first_seed": 1000},
        {"backbones": ("miniature-pixart",)},
    ):
        assert not keys(**changes) & everything


def test_settings_of_a_method_change_its_own_keys_only(asked: RunSettings) -> None:
    changed = replace(asked, method_settings=arms.canonical(asked.methods, ["noise.learning_rate=0.1"]))
    before, after = ({(case.key, case.method) for case in cases(settings)} for settings in (asked, changed))
    assert {method for _, method in before - after} == {"noise"}
    assert {method for _, method in after - before} == {"noise"}


def test_settings_of_methods_are_kept_in_one_way_of_writing() -> None:
    names = ("noise", "auto", "auto+token")
    said = ["auto.refinement.learning_rate=1e-1", "noise.learning_rate=0.2", "noise.learning_rate=0.10"]
    said += ["noise.prior_weight=0.01", "auto+token.num_searches=3"]
    assert arms.canonical(names, said) == (
        *("noise.learning_rate=0.1", "auto.refinement.learning_rate=0.1", "auto+token.num_searches=3"),
    )
    assert arms.canonical(names, arms.canonical(names, said)) == arms.canonical(names, said)


UNKNOWN_SETTINGS = [
    ("learning_rate=0.1", "the run has no method 'learning_rate=0'; it has noise, grid; write METHOD.NAME=VALUE"),
    ("auto.num_searches=3", "the run has no method 'auto'; it has noise, grid"),
    ("noise.learning_rat=1", "noise: unknown setting 'learning_rat'. Did you mean learning_rate"),
    ("noise.learning_rate", "noise: cannot read the setting 'learning_rate'; write NAME=VALUE"),
    ("noise.learning_rate=-1", "noise: learning_rate must be above 0, got -1"),
    ("grid.learning_rate=1", "grid: unknown setting 'learning_rate'. Available: none"),
]


def test_settings_that_no_method_of_the_run_has_are_refused(subtests: pytest.Subtests) -> None:
    for said, reason in UNKNOWN_SETTINGS:
        with subtests.test(said=said), pytest.raises(ValueError, match=reason):
            arms.canonical(("noise", "grid"), [said])


@pytest.mark.slow
def test_settings_of_a_method_reach_it(asked: RunSettings, worker: Worker, tmp_path: Path) -> None:
    settings = replace(
        asked,
        methods=("noise", "search"),
        limit=1,
        method_settings=arms.canonical(("noise", "search"), ["noise.num_optimization_steps=1"]),
    )
    own = copy.copy(worker)
    own.settings = settings
    evaluate(settings, tmp_path, Engine(own), quiet=True)
    noise, search = (read_recipe(tmp_path / str(record.image)) for record in read_run(tmp_path)[1])
    assert noise["settings"]["num_optimization_steps"] == 1
    assert search["settings"]["batch_size"] == 8


def test_a_prompt_that_is_listed_twice_with_one_seed_is_drawn_once(asked: RunSettings, tmp_path: Path) -> None:
    path = tmp_path / "twice.csv"
    path.write_text("prompt,seed\ntwo apples,7\ntwo apples,7\ntwo apples,8\n")
    mine = replace(asked, suite=str(path), suite_sha256=suite_digest(str(path)), methods=("plain",))
    assert [case.seed for case in cases(mine)] == [7, 8]


def test_a_suite_whose_seeds_changed_is_another_suite(tmp_path: Path) -> None:
    path = tmp_path / "seeds.csv"
    digests = set()
    for seed in (7, 8):
        path.write_text(f"prompt,seed\ntwo apples,{seed}\n")
        digests.add(suite_digest(str(path)))
    assert len(digests) == 2


def test_seeds_beyond_the_last_one_are_refused_before_anything_is_drawn(asked: RunSettings) -> None:
    assert len(cases(replace(asked, first_seed=2**32 - 3))) == 12
    with pytest.raises(ValueError, match="prompt 3 would get seeds from 4294967296 on"):
        cases(replace(asked, first_seed=2**32 - 2))


def test_shards_are_the_whole_run_without_overlap(asked: RunSettings) -> None:
    parts = [{case.key for case in cases(replace(asked, shard=f"{k}/3"))} for k in (1, 2, 3)]
    assert set.union(*parts) == {case.key for case in cases(asked)}
    assert sum(map(len, parts)) == 12


@pytest.mark.slow
def test_shards_that_are_put_together_are_the_whole_run(asked: RunSettings, worker: Worker, tmp_path: Path) -> None:
    plain = replace(asked, methods=("plain", "grid"))
    whole = tmp_path / "whole"
    (whole / "images").mkdir(parents=True)
    with (whole / "records.jsonl").open("wb") as together:
        for k in (1, 2):
            part = tmp_path / str(k)
            evaluate(replace(plain, shard=f"{k}/2"), part, Engine(worker), quiet=True)
            together.write((part / "records.jsonl").read_bytes())
            for path in (part / "images").iterdir():
                path.rename(whole / "images" / path.name)
    settings_text = (tmp_path / "1" / "settings.json").read_text()
    (whole / "settings.json").write_text(settings_text.replace('"1/2"', '"1/1"'))
    assert evaluate(plain, whole, Engine(worker, stop_after=0), quiet=True).earlier == 6


SENSELESS = [
    ({"methods": ("magic",)}, "unknown method 'magic'; available: auto, edit, lmn, noise, plain, search, auto.token"),
    ({"methods": ("token",)}, "unknown method 'token'; did you mean plain.token"),
    ({"methods": ("token+noise",)}, "did you mean auto.token"),
    ({"methods": ("grid+token",)}, "unknown method"),
    ({"method_settings": ("noise.learning_rate=0.10",)}, "method_settings must be"),
    ({"methods": ()}, "at least one method"),
    ({"methods": ("plain", "plain")}, "each once"),
    ({"backbones": ("minature",)}, "Did you mean miniature"),
    ({"backbones": ("minature",), "critics": (), "judges": ()}, "Did you mean miniature"),
    ({"critics": ("miniature-yolo",) * 2}, "at least one critic, and each once"),
    ({"critics": ()}, "name critics and judges"),
    ({"judges": ("miniature-yolo",)}, "critic and judge"),
    ({"judges": ("nosuch",)}, "unknown detector 'nosuch'"),
    ({"critics": ("yollo:a.pt",)}, "Did you mean yolo"),
    ({"methods": ("plain", "plain+token"), "backbones": ("sd-turbo",)}, "no count token is shipped"),
    ({"max_evaluations": None}, "budget"),
    ({"max_evaluations": 0}, "max_evaluations must be above 0"),
    ({"limit": 0}, "limit must be at least 1"),
    ({"threads": 0}, "threads must be from 1"),
    ({"threads": 99_999}, "threads must be from 1 to 1024"),
    ({"shard": "4/3"}, "no shard"),
    ({"shard": "third"}, "no shard"),
]


def test_settings_that_make_no_sense_are_refused(subtests: pytest.Subtests, asked: RunSettings) -> None:
    for changes, reason in SENSELESS:
        with subtests.test(changes=changes), pytest.raises(ValueError, match=reason):
            replace(asked, **changes)  # type: ignore[arg-type]


def test_a_suite_that_changed_is_refused(asked: RunSettings) -> None:
    with pytest.raises(ValueError, match="has changed"):
        cases(replace(asked, suite_sha256="0"))


def test_a_second_judge_of_a_critics_architecture_is_refused(asked: RunSettings) -> None:
    twin = f"fcos:{FOLDER / 'judge' / 'model.safetensors'}"
    with pytest.raises(ValueError, match=r"judge miniature-fcos is of the same family .* as the critic"):
        Worker(replace(asked, critics=(twin,), judges=("miniature-yolo", "miniature-fcos")), "miniature")


def test_a_judgement_shows_exactly_what_was_counted(models: Models) -> None:
    image = models.backbone.render(
        models.backbone.initial_latents([3]), models.backbone.encode_prompt("a photo of four apples"), [3]
    )[0]
    counts, detections = found = judged(models.judge, image.detach()[None], ["apple", "cat"])[0]
    assert counts == tuple(models.judge.counts(image[None], ["apple", "cat"])[0].tolist())
    fields = record_fields({"judge": found})
    assert fields["judge_counts"] == {"judge": counts}
    assert len(fields["boxes"]["judge"]) == sum(counts)
    scores = torch.cat([one.scores for one in detections])
    assert fields["confidence"]["judge"] == pytest.approx(float(scores.mean()), abs=1e-4)


def test_a_judge_that_counts_without_detecting_shows_no_boxes() -> None:
    counter = DensityCritic(build(2), ["apple", "cat"])
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    counts, detections = judged(counter, image[None], ["cat"])[0]
    assert counts == tuple(counter.counts(image[None], ["cat"])[0].tolist())
    fields = record_fields({"counter": (counts, detections)})
    assert (fields["boxes"], fields["confidence"]) == ({"counter": ()}, {"counter": 0.0})


def test_every_method_and_refinement_can_be_asked_for() -> None:
    with_suffix = {"plain+token", "auto+token", "plain+adapter", "auto+as-written"}
    assert {"plain", "search", "noise", "lmn", "auto", "grid", *with_suffix} <= set(arms.available())


def test_progress_is_a_line_a_minute_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    assert list(shown(range(5), 25, 20, lambda item: item == 2, stream=stream)) == [0, 1, 2, 3, 4]
    assert re.fullmatch(r"25 of 25 images, [\d.]+ a second, 0:00:00 left, 1 failed\n", stream.getvalue())
    stream = io.StringIO()
    list(shown(range(3), 3, 0, bool, stream=stream, every=0))
    assert len(stream.getvalue().splitlines()) == 3


def test_the_parts_of_a_critic_are_no_judges() -> None:
    pair = "miniature-yolo by miniature-density"
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    asked = ["--suite", "t2icountbench-miniature", "--out", "run", "--critic", pair]
    assert settings_from(parser.parse_args(asked)).judges == ("miniature-fcos", "miniature-heatmap")
    for name in ("miniature-density", pair):
        with pytest.raises(ValueError, match="is critic and judge"):
            settings_from(parser.parse_args([*asked, "--judge", name]))


def test_eval_command_runs_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = tmp_path / "two.txt"
    prompts.write_text("two apples\n")
    arguments = ["eval", "--suite", str(prompts), "--methods", "plain,position", "--out", str(tmp_path / "run")]
    arguments += ["--judge", "miniature-fcos", "--quiet", "--device", "cpu"]
    assert main(arguments) == 0
    assert "2 of 2 images are in" in capsys.readouterr().out
    assert main(arguments) == 0
    assert "2 were there before" in capsys.readouterr().out
    assert main([*arguments, "--max-evaluations", "3"]) == 2
    assert "max_evaluations (there 100, now 3)" in capsys.readouterr().err
    assert main([*arguments, "--methods", "noise", "--set", "noise.learning_rate=0.1"]) == 2
    assert "method_settings (there [], now ['noise.learning_rate=0.1'])" in capsys.readouterr().err
    assert main([*arguments, "--set", "noise.learning_rate=0.1"]) == 2
    assert "the run has no method 'noise'; it has plain, position" in capsys.readouterr().err
    assert main([*arguments, "--device", "toaster"]) == 2
    assert "no device 'toaster' here" in capsys.readouterr().err
    assert main([*arguments, "--out", str(tmp_path / "new"), "--judge", "nosuch"]) == 2
    assert "unknown detector 'nosuch'" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert sorted(os.listdir(tmp_path / "run")) == ["images", "lock", "records.jsonl", "settings.json"]
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["suite"] == str(prompts)


@pytest.mark.slow
def test_pictures_that_were_lost_are_named_and_generated_again(
    asked: RunSettings, finished: Path, worker: Worker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    done = [record for record in read_run(folder)[1] if record.status == "done" and record.image != record.before]
    missing, short, empty = str(done[0].image), str(done[1].before), str(done[2].image)
    (folder / missing).unlink()
    (folder / short).write_bytes((folder / short).read_bytes()[:-5])
    (folder / empty).write_bytes(bytes((folder / empty).stat().st_size))  # as a power cut may leave it
    assert main(["report", str(folder)]) == 0
    told = capsys.readouterr().err
    assert told.startswith("3 images of ")
    assert all(name in told for name in (missing, short, empty))
    engine = Engine(worker)
    summary = evaluate(asked, folder, engine)
    assert {case.key for case in engine.drawn} == {record.key for record in done[:3]}
    assert sorted(summary.lost) == sorted((missing, short, empty))
    assert missing in capsys.readouterr().err
    assert summary.earlier == 9
    for path in (finished / "images").iterdir():
        assert (folder / "images" / path.name).read_bytes() == path.read_bytes()
    assert table(read_run(folder)[1]) == table(read_run(finished)[1])
    assert evaluate(asked, folder, Engine(worker, stop_after=0)).lost == ()
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_eval_says_why_images_failed_and_what_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = tmp_path / "odd.txt"
    prompts.write_text("two apples\nfour unicorns\neighteen cats\n")
    arguments = ["eval", "--suite", str(prompts), "--methods", "plain,plain+token", "--out", str(tmp_path / "run")]
    assert main([*arguments, "--max-evaluations", "2", "--quiet", "--device", "cpu"]) == 1
    said = capsys.readouterr().out
    assert "3 of 5 images" in said
    assert "1 more are no part of the run" in said
    assert re.search(r"^  2 x ValueError: .*unicorn", said, re.MULTILINE)
