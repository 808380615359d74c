"""The number slider: which prompt embeddings stand in place of a number, and what chooses them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace

import countgen
from countgen.editing import edit_run
from countgen.images import to_pil
from countgen.methods.acceptance import Acceptance
from countgen.number_slider import Calibration, NumberShift, encode_shifted, find_calibration, load_calibration
from countgen.number_slider.shifts import NumberOffset, number_offset_from, offset_shifts
from countgen.prompts import Target, read
from countgen.recipe import plain, regenerate
from countgen.tokens.library import find_token

PROMPT = "a photo of fourteen cats"


@pytest.fixture
def calibration() -> Calibration:
    """The calibration of a model that knows four number words and generates two objects for higher ones."""
    made = Calibration("miniature", 1, 0.0, 128, 128, "miniature-yolo", ("cat",), 20, 0, 6)
    for number in range(1, 7):
        made = made.with_point(number, 0.0, {number if number < 5 else 2: 19, 4: 1})
    for offset, count in ((1, 4), (2, 5), (3, 6), (4, 4)):
        made = made.with_point(4, float(offset), {count: 18, 9: 2})
    return made


@pytest.fixture
def shipped(models: countgen.Models) -> Calibration:
    return find_calibration(models.backbone)


def test_the_axis_is_the_range_that_changes_the_count_and_is_used_beyond_the_vocabulary(
    calibration: Calibration,
) -> None:
    assert calibration.left == ()
    assert (calibration.hi, calibration.lo) == (4, 2)
    assert calibration.offset_range == (-2.0, 3.0)
    assert calibration.max_count == 6
    points = {count: calibration.replacement_for(count) for count in (2, 4, 5, 6, 9, 30)}
    replaced = {count: (point.number, point.offset) for count, point in points.items() if point}
    assert replaced == {5: (4, 2.0), 6: (4, 3.0), 9: (4, 3.0), 30: (4, 3.0)}


def test_what_is_no_calibration_is_an_error(calibration: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    calibration.save(path)
    stored = json.loads(path.read_text())
    point = {"number": 1, "offset": 0.0, "images": {"1": 1}}
    changes: list[dict[str, object]] = [{"schema": 9}, {"points": 3}, {"x": 1}, {"max_number": 10**8}]
    changes += [{"points": [point | change]} for change in ({"images": {}}, {"number": 2}, {"offset": 1.0})]
    for content in (*(json.dumps(stored | change) for change in changes), "[" * 200_000):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"a\.json holds no calibration"):
            load_calibration(path)
    path.write_bytes(b" " * 5_000_000)
    with pytest.raises(ValueError, match=r"a\.json is larger than"):
        load_calibration(path)


def test_a_fit_of_an_earlier_version_or_to_other_critics_is_an_error_that_says_what_to_do(
    calibration: Calibration, models: countgen.Models, tmp_path: Path
) -> None:
    path = tmp_path / "a.json"
    replace(calibration, acceptance=Acceptance()).save(path)
    stored = json.loads(path.read_text())
    least = {"intercept": 1.0, "below": 10.0, "above": 3.0}
    path.write_text(json.dumps(stored | {"acceptance": stored["acceptance"] | {"least": least}}))
    with pytest.raises(ValueError, match=r'least.*earlier version without its "acceptance"'):
        load_calibration(path)
    others = replace(calibration, backbone="miniature", acceptance=Acceptance(scales={"yolov8n": 1.0}))
    with pytest.raises(ValueError, match="of the critics yolov8n, here are miniature-heatmap, miniature-yolo"):
        others.check(models.backbone, models.critics)


def test_an_offset_starts_at_the_word_or_beyond_the_highest_one(calibration: Calibration) -> None:
    for number, offset, wanted in ((3, -1.5, (3, -1.5)), (5, 1.0, (4, 2.0)), (6, -1.0, (4, 1.0))):
        (shift,) = offset_shifts(read(f"{number} cats"), calibration, offset)
        assert (shift.number, shift.offset, shift.lo, shift.hi) == (*wanted, 2, 4)
    for prompt, start, text in (("3 cats and 3 dogs", 11, "3"), ("two cats on half a dozen dogs", 12, "half a dozen")):
        (shift,) = offset_shifts(read(prompt), calibration, {"dogs": -1.0})
        assert (shift.object_name, shift.start, prompt[shift.start : shift.end]) == ("dog", start, text)


BAD_OFFSETS: list[tuple[str, NumberOffset, str]] = [
    ("three cats", 3.5, r"3 x cat must be from -2 to 3, as miniature was calibrated, got 3.5"),
    ("six cats", 2.0, r"6 x cat must be from -4 to 1,"),
    ("one cat", -1.5, r"1 x cat must be from -1 to 3,"),
    ("a cat", 1.0, "no number says"),
    ("two red cats and two green cats", 1.0, "number slider"),
    ("three cats", {"dog": 1.0}, "names 'dog', the prompt's objects are cat"),
    ("three cats", float("nan"), "finite"),
    ("three cats", True, "finite"),
]


def test_a_bad_offset_and_a_wrong_calibration_are_errors(
    models: countgen.Models, calibration: Calibration, subtests: pytest.Subtests
) -> None:
    for prompt, offset, reason in BAD_OFFSETS:
        with subtests.test(reason=reason), pytest.raises(ValueError, match=reason):
            offset_shifts(read(prompt), calibration, offset)
    with pytest.raises(ValueError, match="countgen calibrate"):
        offset_shifts(read("three cats"), None, 1.0)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"calibration": replace(calibration, backbone="sdxl-turbo")}, "is of sdxl-turbo"),
        ({"calibration": replace(calibration, points=calibration.points[:-1])}, "lacks 1 points"),
        ({"token": find_token("count-7", "miniature"), "number_offset": 1}, "exclude each other"),
    ]
    for options, reason in wrong:
        with subtests.test(reason=reason), pytest.raises(ValueError, match=reason):
            countgen.Run("seven cats", models, **options)


def test_an_edit_keeps_the_offset_of_objects_whose_count_stays(
    models: countgen.Models, calibration: Calibration
) -> None:
    prompt, offset = "two dogs and three cats", {"cat": 1.0}
    original = countgen.generate(prompt, models, method="plain", number_offset=offset, calibration=calibration)
    run = edit_run(original, models, counts={"dog": 4})
    (shift,) = run.shifts
    assert (shift.object_name, shift.number, shift.offset) == ("cat", 3, 1.0)
    assert run.prompt.text[shift.start : shift.end] == "three"
    assert shift.start == len("four dogs and ")
    assert edit_run(original, models, counts={"cat": 2}).shifts == ()
    (beyond,) = edit_run(original, models, counts={"cat": 6}, calibration=calibration).shifts
    assert (beyond.number, beyond.offset) == (4, 3.0)
    assert edit_run(original, models, counts={"cat": 6}).shifts == ()


def test_number_offsets_are_read_as_text() -> None:
    assert number_offset_from([]) is None
    assert number_offset_from(["-2.5"]) == -2.5
    assert number_offset_from(["cat=1,dog=-2", "wine glass=0"]) == {"cat": 1.0, "dog": -2.0, "wine glass": 0.0}
    for text in ("two", "nan", "cat=", "=3", "1,2", "1,cat=2", "cat=1,cat=2", ""):
        with pytest.raises(ValueError, match="number offset"):
            number_offset_from([text])


@torch.no_grad()
def test_every_class_has_an_axis_of_its_own_and_the_negative_prompt_stays() -> None:
    backbone, text = countgen.backbones.load("miniature", guidance_scale=3.0), "{} cats and {} dogs"
    shifts = [NumberShift("cat", 0, 8, 12, 2.0, 6, 12), NumberShift("dog", 18, 23, 3, -1.0, 2, 4)]

    def of(*words: str) -> torch.Tensor:
        return backbone.encode_prompt(text.format(*words)).prompt_embeds

    wanted = of("twelve", "three") + 2 / 6 * (of("twelve", "three") - of("six", "three"))
    wanted = wanted - 1 / 2 * (of("twelve", "four") - of("twelve", "two"))
    moved = encode_shifted(backbone, text.format("fourteen", "three"), None, shifts, "blurry")
    torch.testing.assert_close(moved.prompt_embeds, wanted)
    negative = backbone.encode_prompt("fourteen cats", "blurry").negative_prompt_embeds
    assert torch.equal(moved.negative_prompt_embeds, negative)


def test_a_count_that_no_word_reaches_is_asked_for_as_calibrated(models: countgen.Models, shipped: Calibration) -> None:
    options = {"method": "search", "seed": 3, "max_evaluations": 12}
    slid = countgen.generate(PROMPT, models, **options)
    written = countgen.generate(PROMPT, models, **options, number_offset=0)
    (shift,) = slid.recipe["number_shifts"]
    point = shipped.replacement_for(14)
    assert (shift["number"], shift["offset"]) == (point.number, point.offset)
    assert "number_shifts" not in written.recipe
    assert slid.counts[0] > written.counts[0]
    assert torch.equal(slid.before, written.before)
    stored = json.loads(json.dumps(slid.recipe))
    assert to_pil(regenerate(stored, models.backbone)).tobytes() == to_pil(slid.image).tobytes()
    assert to_pil(regenerate(plain(stored), models.backbone)).tobytes() == to_pil(slid.before).tobytes()


def test_nothing_is_shifted_where_the_words_do_or_the_prompt_is_another(models: countgen.Models) -> None:
    fourteen = (Target("cat", 14),)
    for prompt, options in (
        ("a photo of twelve cats", {}),
        (PROMPT, {"method": "plain"}),
        (PROMPT, {"number_offset": 0}),
        ("a photo of many cats", {"targets": fourteen}),
        ("a photo of twelve cats", {"targets": fourteen}),
    ):
        assert countgen.Run(prompt, models, **options).shifts == ()
