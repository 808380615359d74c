"""The demo without a server: models, forms, sessions, tokens, and the checks of the command."""

import argparse
import asyncio
import itertools
import sys
import threading
from collections.abc import Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import torch

import countgen
from countgen.app.cli import build_parser, main
from countgen.app.demo import _user_and_password, result_view
from countgen.app.demo.api import Api
from countgen.app.demo.count_tab import CountTab
from countgen.app.demo.edit_tab import EditTab
from countgen.app.demo.gallery import entry_of
from countgen.app.demo.generate_form import GenerateForm, find_token, form_of
from countgen.app.demo.generate_tab import GenerateTab
from countgen.app.demo.job_queue import JobQueue
from countgen.app.demo.learn_tab import SETTINGS, LearnTab, prompt_for
from countgen.app.demo.limits import Limits, RefusedError
from countgen.app.demo.model_cache import ModelCache, release_memory
from countgen.app.demo.previews import previews
from countgen.app.demo.session import Session
from countgen.app.demo.soak import resident_mib
from countgen.methods.step import COST_WITH_GRADIENT
from countgen.models import load_critic
from countgen.prompts import Target
from countgen.recipe import regenerate
from countgen.tokens.trainer import learn_token

LIMITS = Limits()


def completed(work: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a coroutine, run in a thread of its own: a browser's event loop may run in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def test_an_object_without_a_class_is_refused_with_the_known_classes(models: countgen.Models) -> None:
    model_cache = ModelCache({"miniature": models})
    with pytest.raises(RefusedError, match=r"cannot count unicorns\. This model can count: .*apple.*\.$"):
        model_cache.check("miniature", (Target("unicorn", 3),))
    model_cache.check("miniature", (Target("apple", 3),))


def test_a_form_survives_its_recipe(models: countgen.Models) -> None:
    given = GenerateForm(
        "two apples", method="search", seed=7, until="judge", settings="batch_size=3", num_inference_steps=2
    )
    sampled = ModelCache({"miniature": models}).sampled("miniature", 2)
    run = given.run(sampled, (Target("apple", 2),), Session(), LIMITS)
    next(iter(run))
    assert form_of(run.result().recipe, Session()) == given
    assert GenerateForm("two apples").checked(LIMITS).seed >= 0


def test_sampler_steps_and_guidance_change_the_image_and_share_the_weights(models: countgen.Models) -> None:
    cache = ModelCache({"miniature": models})
    changed = cache.sampled("miniature", 2, 3.0)
    assert cache.sampled("miniature", 1, 0.0) is models
    assert changed.backbone.denoiser is models.backbone.denoiser
    plain = countgen.generate("one apple", models, method="plain")
    guided = countgen.generate("one apple", changed, method="plain", negative_prompt="dog")
    assert not torch.equal(plain.image, guided.image)
    assert (guided.recipe["num_inference_steps"], guided.recipe["guidance_scale"]) == (2, 3.0)
    assert "changed_parts" not in guided.recipe
    assert models.backbone.num_inference_steps == 1


def test_the_slider_moves_the_prompt_of_one_image(models: countgen.Models) -> None:
    cache, prompt = ModelCache({"miniature": models}), "a photo of five apples"
    recipe = countgen.generate(prompt, models, method="plain").recipe
    low, high = cache.offsets("miniature", 5) or (0, 0)
    assert low <= -3
    assert high >= 3
    shifts = cache.shifts(recipe, models, "apple", 3.0)
    assert [(shift.number, shift.offset) for shift in shifts] == [(5, 3.0)]
    with pytest.raises(ValueError, match="must be from"):
        cache.shifts(recipe, models, "apple", high + 1)
    moved = {**recipe, "number_shifts": [shift.as_dict() for shift in shifts]}
    assert not torch.equal(regenerate(moved, models.backbone), regenerate(recipe, models.backbone))
    with pytest.raises(RefusedError, match="was moved by"):
        cache.shifts(moved, models, "apple", 1.0)


def test_stop_reaches_a_job_that_runs_and_no_later_one() -> None:
    session = Session()
    session.stop()
    assert not session.stopping
    session.begin()
    session.stop()
    assert session.stopping
    session.begin()
    assert not session.stopping


@pytest.mark.parametrize("how", ["stop", "cancel"])
def test_a_generation_that_is_stopped_or_cancelled_does_not_go_on(models: countgen.Models, how: str) -> None:
    session, cache, begun = Session(), ModelCache({"miniature": models}), threading.Event()
    run = countgen.Run("a photo of nine cats", models, method="search", seed=1, max_evaluations=200)

    def job() -> Generator[list[str], None, None]:
        session.begin()
        begun.set()
        yield list(previews(run, session, [], max_seconds=60))

    async def ended() -> None:
        waiting = asyncio.ensure_future(anext(cache.run_in_worker(job(), session)))
        await asyncio.to_thread(begun.wait)
        if how == "cancel":
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        else:
            session.stop()
            assert len(await waiting) <= 1

    completed(ended())
    cache.call_in_worker(int)  # returns after the job
    assert run.last is not None
    assert run.last.evaluations < 100
    assert run.result().judge_counts


def test_a_caller_who_leaves_while_the_models_are_loaded_starts_no_run(
    models: countgen.Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, loading, left = ModelCache({"miniature": models}), threading.Event(), threading.Event()
    runs = [countgen.Run("a photo of nine cats", models, method="search", max_evaluations=200)]

    def slow(*_: object) -> countgen.Models:
        loading.set()
        left.wait()
        return models

    monkeypatch.setattr(cache, "sampled", slow)
    monkeypatch.setattr(GenerateForm, "run", lambda *_: runs[0])
    with gr.Blocks() as page, gr.Tabs() as tabs, gr.Tab() as opened:
        state = gr.State(Session())
        tab = GenerateTab(LIMITS, cache, state, JobQueue(page, cache))
        api = Api(LIMITS, tab, EditTab(LIMITS, cache, state, tab, tabs, opened), CountTab(LIMITS, cache))

    async def leave() -> None:
        waiting = asyncio.ensure_future(anext(api.generate("a photo of nine cats")))
        await asyncio.to_thread(loading.wait)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        left.set()

    completed(leave())
    cache.call_in_worker(int)  # returns after the job
    assert runs[0].last is None


@pytest.mark.slow
def test_stop_takes_effect_within_one_validation_and_one_step(models: countgen.Models) -> None:
    settings = replace(SETTINGS, validate_every=2)  # so that one comes soon
    learning = learn_token(models, 5, ["apple", "cat", "ball"], settings)
    spent = [0, *(step.evaluations for step in itertools.islice(learning, 3))]
    step = COST_WITH_GRADIENT * SETTINGS.objects_per_step * SETTINGS.seeds_per_object
    assert max(after - before for before, after in itertools.pairwise(spent)) == SETTINGS.validation_images + step


@pytest.mark.slow
def test_density_critics_train_a_token_without_the_semantic_term(models: countgen.Models) -> None:
    counting = replace(models, critics=(load_critic("miniature-yolo by miniature-density"),))
    with pytest.raises(ValueError, match="--semantic-weight 0"):
        learn_token(counting, 3, ["apple"], SETTINGS)
    session, model_cache = Session(), ModelCache({"miniature": counting})
    with gr.Blocks() as page:
        state, tabs = gr.State(session), gr.Tabs()
        generate_tab = GenerateTab(LIMITS, model_cache, state, JobQueue(page, model_cache))
        tab = LearnTab(LIMITS, model_cache, state, generate_tab, tabs)
    session.begin()
    views = []

    async def stopped_in_the_second_view() -> None:
        async for view, _ in tab.learn(["apple"], 3, 30, "miniature", session):
            views.append(view)
            if len(views) == 2:
                session.stop()

    completed(stopped_in_the_second_view())
    assert views[0] == result_view.starting(True)
    assert "Image of this step" in views[1]
    assert list(session.tokens)


def test_models_are_loaded_as_the_command_asks() -> None:
    cache = ModelCache(options={"memory": "low", "scheduler": "DDIMScheduler"})
    cache.load("miniature")
    backbone = cache.get("miniature").backbone
    assert (backbone.memory, type(backbone.pipeline.scheduler).__name__) == ("low", "DDIMScheduler")


@pytest.mark.parametrize("backbone", ["miniature", "miniature-pixart"])
def test_the_shipped_tokens_beyond_the_number_words_are_offered(backbone: str) -> None:
    token = find_token("shipped", (Target("cat", 14),), backbone, Session())
    assert token is not None
    assert token.direction is not None
    with pytest.raises(RefusedError, match=f"for this count is shipped for {backbone}; shipped are: .*count-15"):
        find_token("shipped", (Target("cat", 18),), backbone, Session())


def test_a_count_beyond_the_number_words_is_not_trained_but_made(models: countgen.Models) -> None:
    session, model_cache = Session(), ModelCache({"miniature": models})
    with gr.Blocks() as page:
        state, tabs = gr.State(session), gr.Tabs()
        generate_tab = GenerateTab(LIMITS, model_cache, state, JobQueue(page, model_cache))
        tab = LearnTab(LIMITS, model_cache, state, generate_tab, tabs)
    session.begin()

    async def learned() -> list[tuple[object, object]]:
        return [shown async for shown in tab.learn(["apple", "cat"], 14, 30, "miniature", session)]

    *_, (finished, _) = completed(learned())
    assert "with the token, 0 of 4 with the number word" in str(finished)
    (token,) = session.tokens.values()
    assert token.direction is not None
    assert token.object_names == ("apple", "cat")


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


def test_the_slider_shows_an_image_also_where_the_judge_has_no_boxes(models: countgen.Models) -> None:
    result = countgen.generate("a photo of five apples", models, method="plain")
    cache = ModelCache({"miniature": replace(models, judge=load_critic("miniature-density"))})
    session = Session()
    session.shown = entry_of(result, [], GenerateForm("a photo of five apples"))
    with gr.Blocks() as page:
        state, tabs = gr.State(session), gr.Tabs()
        tab = EditTab(LIMITS, cache, state, GenerateTab(LIMITS, cache, state, JobQueue(page, cache)), tabs, gr.Tab())
    html = tab.slide(1.0, "apple", session)
    assert "Moved by +1: the judge counts" in html
