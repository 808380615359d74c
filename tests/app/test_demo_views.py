"""The HTML of the demo."""

import base64
import io
import json
import re
import zipfile
from dataclasses import replace
from html import escape
from pathlib import Path

import pytest
import torch
from PIL.PngImagePlugin import PngImageFile

import countgen
from countgen import methods
from countgen.app.demo import benchmark_view, edit_view, example, image_pair, result_view
from countgen.app.demo.curves import curve
from countgen.app.demo.gallery import entry_of, zip_link
from countgen.app.demo.generate_form import GenerateForm
from countgen.app.demo.html import model_line
from countgen.app.demo.image_html import match, overlay
from countgen.app.demo.image_pair import Side
from countgen.app.demo.learn_view import Trial
from countgen.app.demo.learn_view import finished as learned_view
from countgen.app.demo.limits import Limits
from countgen.app.demo.model_cache import ModelCache
from countgen.app.demo.settings_form import settings_form
from countgen.app.demo.uploads import file_field
from countgen.critics import NO_ANSWER, Detections
from countgen.images import read_recipe, to_pil
from countgen.methods.settings import describe
from countgen.methods.step import Step
from countgen.prompts import Target
from countgen.recipe import regenerate
from countgen.tokens.library import available_tokens
from tests.benchmarks.evaluation.made_records import record

LIMITS = Limits()


@pytest.mark.parametrize(
    ("targets", "counts", "text"),
    [
        ([Target("apple", 7)], [7], "The judge counts 7 of 7 apples."),
        ([Target("apple", 9)], [7], "The judge counts 7 of 9 apples."),
        ([Target("cat", 2), Target("dog", 1)], [2, 3], "The judge counts 2 of 2 cats, 3 of 1 dog."),
        ([Target("cat", 2), Target("dog", 1)], [2, NO_ANSWER], "The judge counts 2 of 2 cats, no answer of 1 dog."),
        ([Target("apple", 7)], [NO_ANSWER], "The judge gave no answer."),
    ],
)
def test_the_verdict_shows_each_count_beside_its_target(targets: list[Target], counts: list[int], text: str) -> None:
    assert result_view.verdict(targets, counts) == text


FORM = GenerateForm("one apple", method="plain", seed=0)


def test_the_result_holds_the_png_with_its_recipe(models: countgen.Models) -> None:
    result = countgen.generate("one apple", models, method="plain")
    entry = entry_of(result, [], FORM)
    link = re.search(r"download='([^']+)' href='data:image/png;base64,([^']+)'", entry.view)
    assert link is not None
    assert base64.b64decode(link[2]) == entry.png
    assert read_recipe(io.BytesIO(entry.png)) == json.loads(json.dumps(result.recipe))
    archive = zip_link([entry, entry]).partition("base64,")[2].partition("'")[0]
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(archive))) as opened:
        assert opened.namelist() == ["01-one-apple-0.png", "02-one-apple-0.png"]
        assert opened.read("01-one-apple-0.png") == entry.png


def step_with(counts: tuple[int, ...], margin: float) -> Step:
    return Step(0, "search", 0, 1.0, (0.0,), counts, margin, torch.zeros(3, 8, 8), torch.zeros(4, 1, 1), 4, 0.5)


@pytest.mark.parametrize(
    ("counts", "margin", "said", "state"),
    [
        ((6,), -1.0, "Steering detector yolo: 6 of 7 apples.", ""),
        ((7,), -1.0, "waiting for confirmation by the other views", "open"),
        ((7,), 0.5, "close to the threshold", "open"),
        ((7,), 1.5, "the judge counts next", "open confirmed"),
    ],
)
def test_a_run_says_that_the_steering_detector_counts_and_how_certain_it_is(
    counts: tuple[int, ...], margin: float, said: str, state: str
) -> None:
    step = step_with(counts, margin)
    html = result_view.live(step, [], [Target("apple", 7)], [], critic="yolo", max_seconds=5)
    assert said in html
    assert (f"verdict {state}'" if state else "verdict '") in html
    assert not re.search("class='[^']*(right|wrong)", html)  # only the judge's counts are


def test_a_disagreement_of_the_judge_is_explained(models: countgen.Models) -> None:
    result = countgen.generate("one apple", models, method="plain")
    wrong = replace(result, judge_counts=(2,), confirmed=True)
    assert "do not agree" not in result_view.closing(result)
    assert "The judge counts 2 of 1 apple." in result_view.closing(wrong)
    assert "does not agree" in result_view.closing(wrong)
    assert "no independent check" in result_view.closing(replace(wrong, recipe=wrong.recipe | {"until": "judge"}))


def test_a_judge_without_an_answer_is_shown_as_such_everywhere(
    models: countgen.Models, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = countgen.generate("one apple", models, method="plain")
    silent = replace(result, judge_counts=(NO_ANSWER,), confirmed=True)
    html = result_view.finished(silent, [], b"", "apple.png")
    assert "<b>Result: no answer of 1 apple</b> seed 0" in html
    assert "The judge gave no answer." in html
    assert "says neither" in html
    assert "does not agree" not in html
    trial = Trial(result.image, (), "apple", NO_ANSWER, NO_ANSWER)
    token = next(iter(available_tokens("miniature").values()))
    html = learned_view("count-1", token, [trial], 1.0, [0.5], [1.0])
    assert f"<b>no answer of {token.target_count}</b><span>apple, baseline: no answer" in html
    side = Side(result.image, (), image_pair.caption("Moved by +1", ()), "Moved")
    html = edit_view.moved(side, side, result.targets, 1.0, [NO_ANSWER], b"", "apple.png")
    assert "<figcaption><b>Moved by +1</b>" in html
    assert "the judge gave no answer." in html
    abstained = record(judge_counts={})
    assert "<b>no answer</b>" in benchmark_view.failures([abstained], "detector", tmp_path, "plain")
    assert "<b>not generated</b>" in benchmark_view.failures([record(counted=None)], "detector", tmp_path, "plain")


def detected(*lefts: float) -> Detections:
    boxes = torch.tensor([(x, 0.0, x + 10, 10.0) for x in lefts]).reshape(-1, 4)
    return Detections(boxes, torch.ones(len(lefts)), "apple")


def test_unchanged_objects_are_grey_and_changed_ones_coloured() -> None:
    before, after = [detected(0, 40)], [detected(1, 20, 60)]
    found = match(before, after)
    assert (found.before, found.after) == ((frozenset({0}),), (frozenset({0}),))
    html = overlay((128, 128), after, found.after)
    assert html.count("class='same'") == 1
    assert html.count("stroke='#e69f00'") == 2


def test_the_example_is_what_its_command_makes(models: countgen.Models) -> None:
    """Five apples before, seven after, on one seed; the recipe inside makes the same pixels."""
    entry = example.load()
    assert (entry.correct, entry.recipe["seed"], entry.recipe["judge_counts"]) == (True, example.SEED, [7])
    assert f"<b>Baseline: 5 of 7 apples</b> seed {example.SEED}" in entry.view
    with PngImageFile(io.BytesIO(entry.png)) as image:
        difference = to_pil(regenerate(entry.recipe, models.backbone)).tobytes(), image.convert("RGB").tobytes()
    assert max(abs(a - b) for a, b in zip(*difference, strict=True)) <= 3  # other machines round otherwise


@pytest.mark.slow
def test_the_example_is_shown_as_new_images_are() -> None:
    def markup(view: str) -> str:
        return re.sub(r"data:[^']+|-?[0-9.]+", "", view)

    made = example.make()
    assert markup(example.load().view) == markup(example.INTRODUCTION + made.view)
    assert made.recipe["judge_counts"] == [7]


def test_the_settings_form_shows_every_setting_with_meaning_range_and_default() -> None:
    for name in LIMITS.methods:
        settings = methods.load(name).settings_class()
        html = settings_form(LIMITS, name)
        for one in describe(settings):
            assert f"data-name='{one.name}'" in html
            assert escape(one.meaning) in html
            assert escape(one.accepted) in html
    assert "value='3'" in settings_form(LIMITS, "search", "batch_size=3")


def test_prompts_and_names_cannot_become_markup() -> None:
    evil = "<script>alert(1)</script>' onerror='x"
    history = [result_view.HistoryEntry((0,), 1.0)] * 2
    step = step_with((0,), -1.0)
    html = result_view.live(step, [], [Target(evil, 1)], history, critic=evil, max_seconds=5, title=evil)
    html += curve(evil, [1.0]) + model_line(evil) + file_field(evil, evil, evil)
    assert "<script" not in html
    assert "onerror='x" not in html


def test_a_curve_shows_its_latest_value_and_its_goal() -> None:
    svg = curve("Loss", [3.0, 1.0], goal=2.0)
    assert "<b>1.00</b>" in svg
    assert svg.count("class='goal'") == 1
    assert "polyline" not in curve("Loss", [])


def test_a_waiting_job_is_shown_with_its_place_and_time(models: countgen.Models) -> None:
    cache = ModelCache({"miniature": models})
    assert cache.wait(1) == (1, None)  # no job has ended
    assert cache.call_in_worker(abs, -7) == 7
    jobs, seconds = cache.wait(3)
    assert jobs == 3
    assert seconds is not None
    assert cache.call_in_worker(cache.wait, 3)[0] == 4
    assert "3 jobs before yours, about 12 s" in result_view.queued(3, 12.3)
    assert "1 job before yours …" in result_view.queued(1)
