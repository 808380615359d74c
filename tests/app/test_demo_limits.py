"""What visitors of the demo may send and read: limits, routes, run folders, uploads, kept settings."""

import base64
import io
import json
import math
import os
from dataclasses import asdict
from pathlib import Path

import pytest
from PIL import Image

from countgen.app.demo import example, route_allow_list
from countgen.app.demo.generate_form import GenerateForm, kept_form
from countgen.app.demo.limits import Limits, RefusedError, whole_number
from countgen.app.demo.run_folders import RunFolders, read_image
from countgen.app.demo.session import Session
from countgen.app.demo.uploads import decoded_image, decoded_recipe

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


def test_a_form_that_a_browser_kept_is_checked(subtests: pytest.Subtests) -> None:
    given = GenerateForm("two apples", method="search", seed=5, seconds=10, settings="batch_size=3")
    assert kept_form(json.dumps(asdict(given)), LIMITS, Session()) == given
    learned = asdict(given) | {"token": "count-2, learned"}
    assert kept_form(json.dumps(learned), LIMITS, Session()) == given  # the token is gone
    wrong = [
        "",
        "[]",
        "7",
        "null",
        "{}",
        '{"prompt": "a", "x": 1}',
        '{"prompt": "a", "seed": -9}',
        "[" * 10**5,
        "{",
    ]
    for text in [*wrong, json.dumps(asdict(given) | {"method": ["auto"]}), json.dumps(asdict(given) | {"images": {}})]:
        with subtests.test(text=text[:40]):
            assert kept_form(text, LIMITS, Session()) is None
