"""The demo's parts without a server: limits, doors, run folders, words, and the command's own checks."""

import argparse
import base64
import itertools
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest
import torch
from PIL import Image

import countgen
from app.cli import build_parser, main
from app.demo import _user_and_password, doors, stage
from app.demo.curves import curve
from app.demo.generate_tab import GenerateTab
from app.demo.learn_tab import SETTINGS, LearnTab, prompt_for
from app.demo.limits import Limits, RefusedError, whole
from app.demo.run_folders import RunFolders, picture_of
from app.demo.session import Session
from app.demo.shelf import Shelf, give_memory_back
from app.demo.soak import resident_mib
from app.demo.words import verdict
from countgen.images import read_recipe
from countgen.methods.step import COST_WITH_GRADIENT
from countgen.models import load_critic
from countgen.prompts import Target
from countgen.tokens.trainer import learn_token

LIMITS = Limits()


WITHIN = [
    (LIMITS.check_prompt, ["one apple", "a" * 500]),
    (LIMITS.check_count, [1, 50, 7.0, "7"]),
    (LIMITS.check_seed, [0, 2**32 - 1]),
    (LIMITS.check_seconds, [2, 20]),
    (LIMITS.check_object_names, [["apple"], ["apple", "dog"]]),
    (LIMITS.check_labeller, ["Ada", " Ada "]),
]


def test_what_lies_within_the_limits_passes(subtests: pytest.Subtests) -> None:
    for check, values in WITHIN:
        with subtests.test(check=check):
            for value in values:
                assert check(value) is not None


OUTSIDE = [
    (LIMITS.check_prompt, ["", " ", "a" * 501, None, 7, ["one apple"]]),
    (LIMITS.check_count, [0, 51, -1, 1.5, True, None, "٣", "1e3", float("nan"), float("inf")]),
    (LIMITS.check_seed, [-1, 2**32, None, "x"]),
    (LIMITS.check_seconds, [0, 3, 10**6, None, True]),
    (LIMITS.check_backbone, ["sdxl-turbo", "../miniature", "", None, 0]),
    (LIMITS.check_method, ["token", "AUTO", None]),
    (LIMITS.check_object_names, [[], [""], ["x" * 41], list("abcdefghi"), "apple", None, [7]]),
    (LIMITS.check_labeller, ["", " ", "a\nb", "x" * 41, None]),
]


def test_what_lies_outside_is_refused_in_words(subtests: pytest.Subtests) -> None:
    for check, values in OUTSIDE:
        with subtests.test(check=check):
            for value in values:
                with pytest.raises(RefusedError, match=r"\.$"):
                    check(value)


def test_numbers_are_read_as_browsers_send_them() -> None:
    assert [whole(value) for value in (7, 7.0, "7", "7.0", True, None, "1" * 11)] == [7, 7, 7, None, None, None, None]


def test_the_doors_that_the_page_needs_are_open(subtests: pytest.Subtests) -> None:
    for path in ["/", "/config", "/assets/index.js", "/gradio_api/queue/join", "/gradio_api/run/stop"]:
        with subtests.test(path=path):
            assert doors.is_open(path)


CLOSED = [
    "/gradio_api/file=/etc/passwd",
    "/gradio_api/file/x",
    "/gradio_api/upload",
    "/gradio_api/proxy=http://localhost/",
    "/gradio_api/stream/a/b/c/playlist.m3u8",
    "/gradio_api/component_server",
    "/assets/../../etc/passwd",
    "/assets//etc/passwd",
    "/static/..\\x",
    "/config\0",
    "/configuration",
    "/monitoring",
    "/svelte/x",
]


def test_every_other_door_is_closed(subtests: pytest.Subtests) -> None:
    for path in CLOSED:
        with subtests.test(path=path):
            assert not doors.is_open(path)


def test_only_runs_below_the_root_have_names(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    for folder in (root / "a", root / "deep" / "b", tmp_path / "outside", root / ".hidden" / "c"):
        folder.mkdir(parents=True)
        (folder / "settings.json").write_text("{}")
    (root / "link").symlink_to(tmp_path / "outside")
    folders = RunFolders(root)
    assert {name for name in folders.names() if not name.startswith("The study")} == {"a", "deep/b"}
    assert folders.folder("deep/b") == root / "deep" / "b"
    for name in ("link", "../outside", str(tmp_path / "outside"), "a/../a", "", ".", None, 7):
        with pytest.raises(RefusedError):
            folders.folder(name)


def test_a_root_that_is_a_run_itself_goes_by_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text("{}")
    assert RunFolders(tmp_path).folder(tmp_path.name) == tmp_path


def test_a_damaged_run_is_refused_without_its_path(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "settings.json").write_text("{}")
    (tmp_path / "run" / "records.jsonl").write_text("no json\n{}\n")
    with pytest.raises(RefusedError) as refusal:
        RunFolders(tmp_path).read("run")
    assert str(tmp_path) not in str(refusal.value)


def test_pictures_outside_the_run_or_too_large_are_not_opened(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "outside.png")
    Image.new("RGB", (4, 4)).save(run / "inside.png")
    (run / "text.png").write_text("no picture")
    (run / "link.png").symlink_to(tmp_path / "outside.png")
    Image.new("1", (4097, 4096)).save(run / "wide.png")
    with (run / "long.png").open("wb") as file:
        file.truncate(10 * 1024 * 1024 + 1)
    assert picture_of(run, "inside.png") is not None
    outside = ("../outside.png", str(tmp_path / "outside.png"), "link.png")
    for name in (*outside, "text.png", "none.png", "text.txt", "wide.png", "long.png", None):
        assert picture_of(run, name) is None, name


@pytest.mark.parametrize(
    ("targets", "counts", "said"),
    [
        ([Target("apple", 7)], [7], "The judge counts 7: as asked."),
        ([Target("apple", 9)], [7], "Target 9, found 7."),
        ([Target("cat", 2), Target("dog", 1)], [2, 1], "The judge counts cat 2, dog 1: as asked."),
        ([Target("cat", 2), Target("dog", 1)], [2, 3], "Found cat 2, dog 3 instead of 1."),
    ],
)
def test_the_verdict_is_plain_and_a_failure_is_a_failure(targets: list[Target], counts: list[int], said: str) -> None:
    assert verdict(targets, counts) == said


def test_the_result_holds_the_png_with_its_recipe(models: countgen.Models, tmp_path: Path) -> None:
    result = countgen.generate("one apple", models, method="plain")
    html = stage.finished(result, models.judge, [], stopped=False)
    link = re.search(r"download='([^']+)' href='data:image/png;base64,([^']+)'", html)
    assert link is not None
    (tmp_path / link[1]).write_bytes(base64.b64decode(link[2]))
    assert read_recipe(tmp_path / link[1]) == json.loads(json.dumps(result.recipe))


def test_prompts_and_names_cannot_become_markup() -> None:
    evil = "<script>alert(1)</script>' onerror='x"
    picture = torch.zeros(3, 8, 8)
    html = stage.live(picture, [[]], [Target(evil, 1)], [stage.Look((0,), 1.0)] * 2, evil) + curve(evil, [1.0])
    assert "<script" not in html
    assert "onerror='x" not in html


def test_a_curve_shows_its_latest_value_and_its_goal() -> None:
    svg = curve("Loss", [3.0, 1.0], goal=2.0)
    assert "<b>1.00</b>" in svg
    assert svg.count("class='goal'") == 1
    assert "polyline" not in curve("Loss", [])


def test_stop_reaches_a_job_that_runs_and_no_later_one() -> None:
    session = Session()
    session.stop()
    assert not session.stopping
    session.begin()
    session.stop()
    assert session.stopping
    session.begin()
    assert not session.stopping


@pytest.mark.slow
def test_learning_hears_stop_after_a_validation_and_a_step_at_the_latest(models: countgen.Models) -> None:
    learning = learn_token(models, 5, ["apple", "cat", "ball"], SETTINGS)
    spent = [0, *(step.evaluations for step in itertools.islice(learning, 6))]
    step = COST_WITH_GRADIENT * SETTINGS.objects_per_step * SETTINGS.seeds_per_object
    assert max(after - before for before, after in itertools.pairwise(spent)) == SETTINGS.validation_pictures + step


@pytest.mark.slow
def test_critics_that_only_count_teach_without_the_semantic_term(models: countgen.Models) -> None:
    counting = replace(models, critics=(load_critic("miniature-yolo by miniature-density"),))
    with pytest.raises(ValueError, match="--semantic-weight 0"):
        learn_token(counting, 3, ["apple"], SETTINGS)
    session, shelf = Session(), Shelf({"miniature": counting})
    with gr.Blocks():
        state, tabs = gr.State(session), gr.Tabs()
        tab = LearnTab(LIMITS, shelf, state, GenerateTab(LIMITS, shelf, state), tabs)
    session.begin()
    shown = tab.learn(["apple"], 3, 30, "miniature", session)
    assert next(shown)[0] == stage.WAITING
    assert "Picture of this step" in next(shown)[0]
    session.stop()
    list(shown)
    assert list(session.tokens)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's own")
def test_freed_memory_goes_back_to_the_system() -> None:
    kept = [torch.ones(4000) for _ in range(20_000)][::100]  # pieces in use lie between those that are freed
    before = resident_mib()
    give_memory_back()
    assert resident_mib() < before - 100
    assert len(kept) == 200


@pytest.mark.parametrize(("count", "prompt"), [(1, "a photo of one apple"), (5, "a photo of five apples")])
def test_a_tokens_prompt_says_its_count(count: int, prompt: str) -> None:
    assert prompt_for(countgen.find_token(f"count-{count}", "miniature"), "apple") == prompt


@pytest.mark.parametrize(
    "opened", [["--share"], ["--host", "0.0.0.0"], ["--host", "::"], ["--host", "192.0.2.1"], ["--host", ""]], ids=str
)
def test_whoever_lets_others_in_gives_a_password(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    monkeypatch.delenv("COUNTGEN_DEMO_AUTH", raising=False)
    assert main(["demo", *opened]) == 2
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    assert "give a password in COUNTGEN_DEMO_AUTH, or --auth USER:PASSWORD" in said


@pytest.mark.parametrize(
    "wrong", [["--auth", "user"], ["--auth", ":"], ["--port", "0"], ["--port", "70000"], ["--port", "x"]]
)
def test_bad_options_are_refused_by_the_parser(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        build_parser().parse_args(["demo", *wrong])
    assert stopped.value.code == 2


def test_folders_and_backbones_are_checked_before_anything_is_served(tmp_path: Path) -> None:
    assert main(["demo", "--runs", str(tmp_path / "none")]) == 2
    assert main(["demo", "--backbone", "no-such-model"]) == 2
    assert main(["demo", "--backbone", "sdxl-turbo"]) == 2  # it would draw nothing without detectors


def test_the_demo_listens_to_this_machine_alone_by_default() -> None:
    assert build_parser().parse_args(["demo"]).host == "127.0.0.1"
    assert _user_and_password("ada:love:lace") == ("ada", "love:lace")
    with pytest.raises(argparse.ArgumentTypeError):
        _user_and_password("ada:")
