"""The demo without a server: limits, route allow-list, run folders, views, and the checks of the command."""

import argparse
import base64
import itertools
import json
import os
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
from app.demo import _user_and_password, result_view, route_allow_list
from app.demo.curves import curve
from app.demo.generate_tab import GenerateTab
from app.demo.learn_tab import SETTINGS, LearnTab, prompt_for
from app.demo.limits import Limits, RefusedError, whole_number
from app.demo.model_cache import ModelCache, release_memory
from app.demo.run_folders import RunFolders, read_image
from app.demo.session import Session
from app.demo.soak import resident_mib
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


def test_values_within_the_limits_pass(subtests: pytest.Subtests) -> None:
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


def test_values_outside_the_limits_are_refused_with_a_sentence(subtests: pytest.Subtests) -> None:
    for check, values in OUTSIDE:
        with subtests.test(check=check):
            for value in values:
                with pytest.raises(RefusedError, match=r"\.$"):
                    check(value)


def test_numbers_are_read_as_browsers_send_them() -> None:
    assert [whole_number(value) for value in (7, 7.0, "7", "7.0", True, None, "1" * 11)] == [
        7,
        7,
        7,
        None,
        None,
        None,
        None,
    ]


def test_routes_that_the_page_needs_are_allowed(subtests: pytest.Subtests) -> None:
    for path in ["/", "/config", "/assets/index.js", "/gradio_api/queue/join", "/gradio_api/run/stop"]:
        with subtests.test(path=path):
            assert route_allow_list.is_allowed(path)


REFUSED = [
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


def test_all_other_routes_are_refused(subtests: pytest.Subtests) -> None:
    for path in REFUSED:
        with subtests.test(path=path):
            assert not route_allow_list.is_allowed(path)


def test_only_runs_below_the_root_are_listed(tmp_path: Path) -> None:
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


def test_a_root_that_is_a_run_is_listed_by_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text("{}")
    assert RunFolders(tmp_path).folder(tmp_path.name) == tmp_path


def test_a_damaged_run_is_refused_without_its_path(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "settings.json").write_text("{}")
    (tmp_path / "run" / "records.jsonl").write_text("no json\n{}\n")
    with pytest.raises(RefusedError) as refusal:
        RunFolders(tmp_path).read("run")
    assert str(tmp_path) not in str(refusal.value)


def test_images_outside_the_run_or_too_large_are_not_opened(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "outside.png")
    Image.new("RGB", (4, 4)).save(run / "inside.png")
    (run / "text.png").write_text("not an image")
    (run / "link.png").symlink_to(tmp_path / "outside.png")
    Image.new("1", (4097, 4096)).save(run / "wide.png")
    with (run / "long.png").open("wb") as file:
        file.truncate(10 * 1024 * 1024 + 1)
    os.mkfifo(run / "pipe.png")
    assert read_image(run, "inside.png") is not None
    outside = ("../outside.png", str(tmp_path / "outside.png"), "link.png")
    for name in (*outside, "text.png", "none.png", "text.txt", "wide.png", "long.png", "pipe.png", "a\0.png", None):
        assert read_image(run, name) is None, name


@pytest.mark.parametrize(
    ("targets", "counts", "text"),
    [
        ([Target("apple", 7)], [7], "The judge counts 7 of 7 apples."),
        ([Target("apple", 9)], [7], "The judge counts 7 of 9 apples."),
        ([Target("cat", 2), Target("dog", 1)], [2, 3], "The judge counts 2 of 2 cats, 3 of 1 dog."),
    ],
)
def test_the_verdict_shows_each_count_beside_its_target(targets: list[Target], counts: list[int], text: str) -> None:
    assert result_view.verdict(targets, counts) == text


def test_an_object_without_a_class_is_refused_with_the_known_classes(models: countgen.Models) -> None:
    model_cache = ModelCache({"miniature": models})
    with pytest.raises(RefusedError, match=r"cannot count unicorns\. This model can count: .*apple.*\.$"):
        model_cache.check("miniature", (Target("unicorn", 3),))
    model_cache.check("miniature", (Target("apple", 3),))


def test_the_result_holds_the_png_with_its_recipe(models: countgen.Models, tmp_path: Path) -> None:
    result = countgen.generate("one apple", models, method="plain")
    html = result_view.finished(result, [], stopped=False)
    link = re.search(r"download='([^']+)' href='data:image/png;base64,([^']+)'", html)
    assert link is not None
    (tmp_path / link[1]).write_bytes(base64.b64decode(link[2]))
    assert read_recipe(tmp_path / link[1]) == json.loads(json.dumps(result.recipe))


def test_prompts_and_names_cannot_become_markup() -> None:
    evil = "<script>alert(1)</script>' onerror='x"
    image, history = torch.zeros(3, 8, 8), [result_view.HistoryEntry((0,), 1.0)] * 2
    html = result_view.live(image, [], [Target(evil, 1)], history, evil) + curve(evil, [1.0])
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
def test_stop_takes_effect_within_one_validation_and_one_step(models: countgen.Models) -> None:
    learning = learn_token(models, 5, ["apple", "cat", "ball"], SETTINGS)
    spent = [0, *(step.evaluations for step in itertools.islice(learning, 6))]
    step = COST_WITH_GRADIENT * SETTINGS.objects_per_step * SETTINGS.seeds_per_object
    assert max(after - before for before, after in itertools.pairwise(spent)) == SETTINGS.validation_pictures + step


@pytest.mark.slow
def test_density_critics_train_a_token_without_the_semantic_term(models: countgen.Models) -> None:
    counting = replace(models, critics=(load_critic("miniature-yolo by miniature-density"),))
    with pytest.raises(ValueError, match="--semantic-weight 0"):
        learn_token(counting, 3, ["apple"], SETTINGS)
    session, model_cache = Session(), ModelCache({"miniature": counting})
    with gr.Blocks():
        state, tabs = gr.State(session), gr.Tabs()
        tab = LearnTab(LIMITS, model_cache, state, GenerateTab(LIMITS, model_cache, state), tabs)
    session.begin()
    shown = tab.learn(["apple"], 3, 30, "miniature", session)
    assert next(shown)[0] == result_view.LOADING
    assert "Image of this step" in next(shown)[0]
    session.stop()
    list(shown)
    assert list(session.tokens)


@pytest.mark.skipif(sys.platform != "linux", reason="a function of glibc")
def test_freed_memory_is_returned_to_the_system() -> None:
    kept = [torch.ones(4000) for _ in range(20_000)][::100]  # blocks in use lie between freed ones
    before = resident_mib()
    release_memory()
    assert resident_mib() < before - 100
    assert len(kept) == 200


@pytest.mark.parametrize(("count", "prompt"), [(1, "a photo of one apple"), (5, "a photo of five apples")])
def test_the_prompt_of_a_token_contains_its_count(count: int, prompt: str) -> None:
    assert prompt_for(countgen.find_token(f"count-{count}", "miniature"), "apple") == prompt


@pytest.mark.parametrize(
    "opened", [["--share"], ["--host", "0.0.0.0"], ["--host", "::"], ["--host", "192.0.2.1"], ["--host", ""]], ids=str
)
def test_an_address_that_other_machines_can_reach_needs_a_password(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    monkeypatch.delenv("COUNTGEN_DEMO_AUTH", raising=False)
    assert main(["demo", *opened]) == 2
    message = capsys.readouterr().err.strip()
    assert message.count("\n") == 0
    assert "give a password in COUNTGEN_DEMO_AUTH, or --auth USER:PASSWORD" in message


@pytest.mark.parametrize(
    "wrong", [["--auth", "user"], ["--auth", ":"], ["--port", "0"], ["--port", "70000"], ["--port", "x"]]
)
def test_bad_options_are_refused_by_the_parser(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        build_parser().parse_args(["demo", *wrong])
    assert stopped.value.code == 2


def test_folders_and_backbones_are_checked_before_the_page_is_served(tmp_path: Path) -> None:
    assert main(["demo", "--runs", str(tmp_path / "none")]) == 2
    assert main(["demo", "--model", "no-such-model"]) == 2
    assert main(["demo", "--model", "sdxl-turbo"]) == 2  # its detectors are not here, and nothing is downloaded


def test_the_demo_is_reachable_from_this_machine_only_by_default() -> None:
    assert build_parser().parse_args(["demo"]).host == "127.0.0.1"
    assert _user_and_password("ada:love:lace") == ("ada", "love:lace")
    with pytest.raises(argparse.ArgumentTypeError):
        _user_and_password("ada:")
