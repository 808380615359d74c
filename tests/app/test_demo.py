"""The demo without a server: limits, forms, jobs, results, and the checks of the command."""

import asyncio
import io
import json
import shutil
import threading
from collections.abc import Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

import countgen
from countgen.app.demo.form import GenerateForm, UploadedTokens, find_token, form_of, kept_form
from countgen.app.demo.images import boxed, unchanged
from countgen.app.demo.jobs import EXAMPLE_FILE, Jobs
from countgen.app.demo.limits import LimitError, Limits
from countgen.app.demo.results import entry_of, live, status
from countgen.app.demo.wording import python_of
from countgen.app.demo.worker import Job, Worker
from countgen.critics import NO_ANSWER, Detections
from countgen.images import read_recipe, to_pil
from countgen.prompts import Target
from countgen.recipe import regenerate

LIMITS = Limits()
TOKENS = UploadedTokens()


def completed(work: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a coroutine, run in a thread of its own: a browser's event loop may run in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def test_a_form_survives_its_recipe_and_a_reload(models: countgen.Models) -> None:
    given = GenerateForm("two apples", method="search", seed=7, until="judge", settings="batch_size=3")
    given = replace(given, num_inference_steps=2)
    run = Jobs(LIMITS, Worker(LIMITS, {"miniature": models})).run(given)
    next(iter(run))
    assert form_of(run.result().recipe, TOKENS) == given
    assert kept_form(json.dumps(astuple(given)), LIMITS, TOKENS) == given
    other = replace(given, token="0" * 64)
    assert kept_form(json.dumps(astuple(other)), LIMITS, TOKENS) == given  # the token is gone
    for text in ("", "{}", "7", "null", "[" * 10**5, '["a", "x"]', json.dumps([*astuple(given), 1]), None):
        assert kept_form(text, LIMITS, TOKENS) is None


def test_tokens_are_found_and_the_oldest_uploads_are_dropped() -> None:
    kept, token = UploadedTokens(), countgen.find_token("count-5", "miniature")
    for digest in "abc":
        kept.keep(replace(token, vectors={name: one + ord(digest) for name, one in token.vectors.items()}), 2)
    assert len(kept) == 2
    own = next(iter(kept))
    assert find_token(own, (Target("cat", 5),), "miniature", kept) is kept[own]
    assert find_token("shipped", (Target("cat", 5),), "miniature", kept).sha256 == token.sha256
    with pytest.raises(LimitError, match="for this count is shipped for miniature"):
        find_token("shipped", (Target("cat", 18),), "miniature", kept)
    with pytest.raises(LimitError, match="upload its file again"):
        find_token("0" * 64, (Target("cat", 5),), "miniature", kept)


def test_models_are_loaded_as_the_command_asks_and_shared_by_all_sampler_settings() -> None:
    worker = Worker(LIMITS, memory="low", scheduler="DDIMScheduler")
    worker.load("miniature")
    models, changed = worker.models("miniature"), worker.models("miniature", num_inference_steps=2, guidance_scale=3.0)
    backbone = models.backbone
    assert (backbone.memory, type(backbone.pipeline.scheduler).__name__) == ("low", "DDIMScheduler")
    assert changed.backbone.denoiser is backbone.denoiser
    guided = countgen.generate("one apple", changed, method="plain", negative_prompt="dog")
    assert (guided.recipe["num_inference_steps"], guided.recipe["guidance_scale"]) == (2, 3.0)
    assert (backbone.num_inference_steps, worker.models("miniature")) == (1, models)
    with pytest.raises(ValueError, match="no class for 'unicorn'"):
        Jobs(LIMITS, worker).read("three unicorns", "miniature")


def test_jobs_take_turns_and_say_what_comes_before_them() -> None:
    worker = Worker(replace(LIMITS, max_jobs=2, max_jobs_of_client=1))
    first, second, done = Job("a", 20, 4), Job("b", 5), threading.Event()

    def slow() -> Generator[str, None, None]:
        yield "begun"
        done.wait()
        yield "done"

    async def watched() -> list[str]:
        one, two = worker.run(first, slow()), worker.run(second, slow())
        items = [await anext(one)]
        with pytest.raises(LimitError, match="1 jobs of your address"):
            await anext(worker.run(Job("a"), slow()))
        items.append(await anext(two))
        with pytest.raises(LimitError, match="2 jobs are in the queue"):
            await anext(worker.run(Job("c"), slow()))
        second.stop()  # it leaves the queue
        items += [item async for item in two]
        done.set()
        return items + [item async for item in one]

    items = completed(watched())
    assert items == ["begun", "Waiting: 1 job with 4 images before yours, at most 20 s.", "done"]
    assert worker.jobs == []


@pytest.mark.parametrize(
    ("changes", "grade", "said"),
    [
        ({}, "right", "The judge counts 1 of 1 apple."),
        ({"confirmed": False}, "open", "but the detectors that steer are not sure"),
        ({"counts": (2,)}, "open", "but the detectors that steer are not sure"),
        ({"judge_counts": (2,)}, "wrong", "The judge counts 2 of 1 apple: 1 apple too many."),
        ({"judge_counts": (NO_ANSWER,)}, "open", "no answer of 1 apple"),
    ],
)
def test_only_a_count_that_every_detector_confirms_is_shown_as_right(
    models: countgen.Models, monkeypatch: pytest.MonkeyPatch, changes: dict, grade: str, said: str
) -> None:
    run = countgen.Run("one apple", models, method="plain")
    list(run)
    result = replace(run.result(), **{"confirmed": True, "counts": (1,)} | changes)
    monkeypatch.setattr(run, "result", lambda: result)
    entry = entry_of(run, GenerateForm("one apple"))
    assert (entry.grade, said in entry.verdict) == (grade, True)
    assert f"class='verdict {grade}'" in entry.status


def test_a_baseline_that_was_right_is_offered_with_the_reason_why_it_was_replaced(models: countgen.Models) -> None:
    run = next(
        run
        for seed in range(40)
        if list(run := countgen.Run("a photo of three apples", models, method="search", seed=seed, max_evaluations=20))
        and run.best.seed != seed
        and [len(one) for one in run.result().before_detections] == [3]
    )
    entry = entry_of(run, GenerateForm("a photo of three apples", seed=run.seed))
    assert "The baseline was right by the judge already." in entry.notes[-1]
    doubts = run.doubts(run.result().before)
    assert all(doubt in entry.notes[-1] for doubt in doubts)
    assert all(doubt.startswith(("miniature-yolo counts", "miniature-heatmap counts")) for doubt in doubts)
    assert entry.baseline is not None
    recipe = read_recipe(io.BytesIO(entry.baseline.png))
    assert (recipe["candidate_seed"], recipe["method"]) == (run.seed, "plain")


def test_the_example_is_what_its_command_makes(models: countgen.Models) -> None:
    example = Jobs(LIMITS, Worker(LIMITS)).example
    assert (example.recipe["seed"], example.recipe["judge_counts"]) == (199, [7])
    with PngImageFile(EXAMPLE_FILE) as image:
        pixels = to_pil(regenerate(example.recipe, models.backbone)).tobytes(), image.convert("RGB").tobytes()
    assert max(abs(a - b) for a, b in zip(*pixels, strict=True)) <= 3  # other machines round otherwise


def test_unchanged_objects_are_grey_and_changed_ones_coloured() -> None:
    def detected(*lefts: float) -> list[Detections]:
        boxes = torch.tensor([(x, 0.0, x + 10, 10.0) for x in lefts]).reshape(-1, 4)
        return [Detections(boxes, torch.ones(len(lefts)), "apple")]

    before, after = unchanged(detected(0, 40), detected(1, 20, 60))
    assert (before, after) == ([{0}], [{0}])
    colours = {colour for _, colour in boxed(torch.zeros(3, 128, 128), detected(1, 20), after).getcolors()}
    assert {(0xA8, 0xA2, 0x9E), (0xE6, 0x9F, 0x00)} < colours


def test_prompts_and_names_cannot_become_markup(models: countgen.Models) -> None:
    evil = "<script>alert(1)</script>"
    run = countgen.Run("one apple", models, method="plain")
    step = next(iter(run))
    run.targets = (Target(evil, 1),)
    assert "<script" not in live(run, step, 5, "") + status(evil, "wrong", [evil])


def test_the_code_of_an_image_makes_the_same_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = read_recipe(EXAMPLE_FILE)
    shutil.copy(EXAMPLE_FILE, tmp_path / "it's.png")
    same, _, others = python_of(recipe, "it's.png").partition("# Others like it:\n")
    names: dict[str, Any] = {}
    exec(same, names)
    with Image.open(EXAMPLE_FILE) as image:
        assert to_pil(names["image"]).tobytes() == image.convert("RGB").tobytes()
    exec(others.replace("'edit'", "'plain'"), names)
    assert names["result"].seed == recipe["seed"]
    with Image.open("counted.png") as image:
        assert image.size == (128, 128)
    assert python_of({**recipe, "token": "count-5"}, "a.png").startswith("# It was made with a count token")
