"""The demo without a server: limits, route allow-list, run folders, views, and the checks of the command."""

import argparse
import base64
import io
import itertools
import json
import math
import os
import re
import sys
import zipfile
from dataclasses import replace
from html import escape
from pathlib import Path

import gradio as gr
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

import countgen
from app.cli import build_parser, main
from app.demo import _user_and_password, benchmark_view, edit_view, example, result_view, route_allow_list
from app.demo.curves import curve
from app.demo.edit_tab import EditTab
from app.demo.gallery import entry_of, zip_link
from app.demo.generate_form import GenerateForm, edited_form, find_adapter, find_token, form_of
from app.demo.generate_tab import GenerateTab
from app.demo.html import model_line
from app.demo.image_html import match, overlay
from app.demo.learn_tab import SETTINGS, LearnTab, prompt_for
from app.demo.learn_view import Trial
from app.demo.learn_view import finished as learned_view
from app.demo.limits import Limits, RefusedError, whole_number
from app.demo.model_cache import ModelCache, release_memory
from app.demo.result_view import Side
from app.demo.run_folders import RunFolders, read_image
from app.demo.session import Session
from app.demo.settings_form import settings_form
from app.demo.soak import resident_mib
from app.demo.uploads import decoded_image, decoded_recipe, file_field
from countgen import methods
from countgen.images import read_recipe, to_pil
from countgen.methods.settings import describe
from countgen.methods.step import COST_WITH_GRADIENT, Step
from countgen.models import load_critic
from countgen.prompts import Target
from countgen.recipe import regenerate
from countgen.tokens.library import available_tokens
from countgen.tokens.trainer import learn_token
from critics import NO_ANSWER, Detections
from tests.benchmarks.evaluation.made_records import record
from tests.countgen.adapters.tiny_adapter import tiny_adapter

LIMITS = Limits()


WITHIN = [
    (LIMITS.check_prompt, ["one apple", "a" * 500]),
    (LIMITS.check_count, [1, 50, 7.0, "7"]),
    (LIMITS.check_seed, [-1, 0, 2**32 - 1]),
    (LIMITS.check_seconds, [2, 20]),
    (LIMITS.check_images, [1, 4.0]),
    (LIMITS.check_until, ["critic", "judge"]),
    (LIMITS.check_detector, ["nanodet"]),
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
    (LIMITS.check_seed, [-2, 2**32, None, "x"]),
    (LIMITS.check_images, [0, 5, None, "many"]),
    (LIMITS.check_until, ["both", None]),
    (LIMITS.check_detector, ["yolo:yolo11n", "../x", None]),
    (LIMITS.check_negative_prompt, ["a" * 501, 7]),
    (LIMITS.check_inference_steps, [-1, 9, 1.5, True, "many"]),
    (LIMITS.check_guidance, [-1, 31, math.nan, "high", True, 10**400]),
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
    for path in [
        "/",
        "/config",
        "/assets/index.js",
        "/gradio_api/queue/join",
        "/gradio_api/run/stop",
        "/gradio_api/call/count",
    ]:
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
        ([Target("cat", 2), Target("dog", 1)], [2, NO_ANSWER], "The judge counts 2 of 2 cats, no answer of 1 dog."),
        ([Target("apple", 7)], [NO_ANSWER], "The judge gave no answer."),
    ],
)
def test_the_verdict_shows_each_count_beside_its_target(targets: list[Target], counts: list[int], text: str) -> None:
    assert result_view.verdict(targets, counts) == text


def test_an_object_without_a_class_is_refused_with_the_known_classes(models: countgen.Models) -> None:
    model_cache = ModelCache({"miniature": models})
    with pytest.raises(RefusedError, match=r"cannot count unicorns\. This model can count: .*apple.*\.$"):
        model_cache.check("miniature", (Target("unicorn", 3),))
    model_cache.check("miniature", (Target("apple", 3),))


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
        ((7,), 1.5, "the judge counts next", "open"),
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
    assert "seed 0: no answer of 1 apple" in html
    assert "The judge gave no answer." in html
    assert "says neither" in html
    assert "does not agree" not in html
    trial = Trial(result.image, (), "apple", NO_ANSWER, NO_ANSWER)
    token = next(iter(available_tokens("miniature").values()))
    html = learned_view("count-1", token, [trial], 1.0, [0.5], [1.0])
    assert f"<b>no answer of {token.target_count}</b><span>apple, baseline: no answer" in html
    side = Side(result.image, (), edit_view.caption("Moved by +1", ()), "Moved")
    html = edit_view.moved(side, side, result.targets, 1.0, [NO_ANSWER], b"", "apple.png")
    assert "<figcaption>Moved by +1</figcaption>" in html
    assert "the judge gave no answer." in html
    abstained = record(judge_counts={})
    assert "<b>no answer</b>" in benchmark_view.failures([abstained], "detector", tmp_path, "plain")
    assert "<b>not generated</b>" in benchmark_view.failures([record(counted=None)], "detector", tmp_path, "plain")


def test_the_slider_shows_an_image_also_where_the_judge_has_no_boxes(models: countgen.Models) -> None:
    result = countgen.generate("a photo of five apples", models, method="plain")
    cache = ModelCache({"miniature": replace(models, judge=load_critic("miniature-density"))})
    session = Session()
    session.shown = entry_of(result, [], GenerateForm("a photo of five apples"))
    with gr.Blocks():
        state, tabs = gr.State(session), gr.Tabs()
        tab = EditTab(LIMITS, cache, state, GenerateTab(LIMITS, cache, state), tabs, gr.Tab())
    html = tab.slide(1.0, "apple", session)
    assert "Moved by +1: the judge counts" in html


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
    assert f"Baseline, seed {example.SEED}: 5 of 7 apples" in entry.view
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


def test_a_form_survives_its_recipe(models: countgen.Models) -> None:
    given = GenerateForm(
        "two apples", method="search", seed=7, until="judge", settings="batch_size=3", num_inference_steps=2
    )
    sampled = ModelCache({"miniature": models}).sampled("miniature", 2)
    run = given.run(sampled, (Target("apple", 2),), Session(), LIMITS)
    next(iter(run))
    assert form_of(run.result().recipe, Session()) == given
    assert GenerateForm("two apples").checked(LIMITS).seed >= 0


BAD_FORMS = [
    {"settings": "batch_size=17", "method": "search"},
    {"settings": "refinement.num_optimization_steps=1001"},
    {"settings": "learning_rate=1"},
    {"settings": "num_searches"},
    {"settings": ["a"]},
    {"settings": "x" * 2001},
]


def test_settings_beyond_the_limits_are_refused(subtests: pytest.Subtests) -> None:
    for wrong in BAD_FORMS:
        with subtests.test(wrong=wrong), pytest.raises(ValueError, match=r"\w"):
            GenerateForm(**{"prompt": "one apple"} | wrong).checked(LIMITS)


def test_the_settings_form_shows_every_setting_with_meaning_range_and_default() -> None:
    for name in LIMITS.methods:
        settings = methods.load(name).settings_class()
        html = settings_form(LIMITS, name)
        for one in describe(settings):
            assert f"data-name='{one.name}'" in html
            assert escape(one.meaning) in html
            assert escape(one.accepted) in html
    assert "value='3'" in settings_form(LIMITS, "search", "batch_size=3")


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


def encoded(image: Image.Image, kind: str) -> str:
    file = io.BytesIO()
    image.save(file, kind)
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_uploaded_images_are_read_with_or_without_a_data_uri(kind: str) -> None:
    data = encoded(Image.new("RGB", (6, 4), "red"), kind)
    for given in (data, f"data:image/{kind.lower()};base64,{data}"):
        assert decoded_image(given, 10_000, 100).size == (6, 4)


def test_other_uploads_are_refused_with_a_sentence(subtests: pytest.Subtests) -> None:
    image = Image.new("RGB", (64, 64), "red")
    png = base64.b64decode(encoded(image, "PNG"))
    cases = {
        "no text": None,
        "no base64": "???",
        "another format": encoded(image, "GIF"),
        "a pickle": base64.b64encode(b"PK\x03\x04" * 40).decode(),
        "too many pixels": encoded(Image.new("1", (3000, 3000)), "PNG"),
        "too many bytes": "A" * 3_000_000,
        "cut short": base64.b64encode(png[:60]).decode(),
        "only its first bytes": base64.b64encode(png[:8]).decode(),
        "damaged": base64.b64encode(png[:40] + b"\xff" * 40 + png[80:]).decode(),
        "a JPEG of nothing": base64.b64encode(b"\xff\xd8\xff\xe0" + bytes(100)).decode(),
        "a WebP of nothing": base64.b64encode(b"RIFF\0\0\0\0WEBPVP8 " + bytes(50)).decode(),
    }
    for name, data in cases.items():
        with subtests.test(name):
            with pytest.raises(RefusedError, match=r"\.$") as refusal:
                decoded_image(data, LIMITS.max_image_bytes, LIMITS.max_image_pixels)
            assert "/" not in str(refusal.value)


def test_the_beginning_of_a_png_is_enough_for_its_recipe() -> None:
    entry = example.load()
    start = entry.png.index(b"IDAT") + 4
    assert decoded_recipe(base64.b64encode(entry.png[:start]).decode(), 10**6) == entry.recipe
    for wrong in (encoded(Image.new("RGB", (4, 4)), "PNG"), "", None, base64.b64encode(entry.png[:100]).decode()):
        with pytest.raises(RefusedError, match=r"\.$"):
            decoded_recipe(wrong, 10**6)


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
    assert next(shown)[0] == result_view.starting(True)
    assert "Image of this step" in next(shown)[0]
    session.stop()
    list(shown)
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
    with gr.Blocks():
        state, tabs = gr.State(session), gr.Tabs()
        tab = LearnTab(LIMITS, model_cache, state, GenerateTab(LIMITS, model_cache, state), tabs)
    session.begin()
    *_, (finished, _) = tab.learn(["apple", "cat"], 14, 30, "miniature", session)
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


def test_a_shipped_noise_adapter_is_offered_and_restored(
    models: countgen.Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RefusedError, match="Unknown noise adapter"):
        find_adapter("../a", "miniature")
    with pytest.raises(RefusedError, match="No noise adapter is shipped for magic"):
        find_adapter("shipped", "magic")
    monkeypatch.setattr("countgen.adapters.library.FOLDER", tmp_path)
    (tmp_path / "miniature").mkdir()
    countgen.save_adapter(tiny_adapter(), tmp_path / "miniature" / "tiny.safetensors")
    form = GenerateForm("four apples", method="plain", adapter="shipped", seed=3).checked(LIMITS)
    run = form.run(models, (Target("apple", 4),), Session(), LIMITS)
    list(run)
    recipe = run.result().recipe
    assert form_of(recipe, Session()).adapter == "shipped"
    assert edited_form(form, "five apples").adapter == "none"
    assert form_of(recipe | {"adapter": {"sha256": "0"}}, Session()).adapter == "none"
    assert find_adapter("none", "miniature") is None
