"""Damaged recipes, tokens, detectors and calibrations run nothing, and are one line."""

from __future__ import annotations

import copy
import io
import json
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import to_builtins
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from countgen import miniature
from countgen.critics import load
from countgen.critics.ultralytics_files import import_ultralytics
from countgen.editing import targets_of
from countgen.errors import TokenFileError
from countgen.images import read_png
from countgen.number_slider import Calibration, NumberShift, load_calibration
from countgen.recipe import SCHEMA, check
from countgen.tokens.file import METADATA_KEY, decoded, encoded
from countgen.tokens.library import available_tokens
from tests.faults.hostile import damaged_bytes, damaged_json, damaged_text, read_or_one_line

OPTIONS = miniature.DETECTORS["miniature-yolo"].options


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that every try writes into anew, made once the libraries are imported, which make their caches then."""
    load("yolo", **OPTIONS)
    return tmp_path_factory.mktemp("hostile")


RECIPE = {
    **{"schema": SCHEMA, "prompt": "seven apples", "method": "plain", "seed": 0, "candidate_seed": 0},
    **{"backbone": "miniature", "repository": "mini-sdxl-turbo", "revision": "a" * 40, "num_inference_steps": 1},
    **{"guidance_scale": 0.0, "height": 64, "width": 64, "dtype": "float32", "memory": "fast"},
    "latents": {"shape": [4, 8, 8], "float32": "AAAAAA=="},
    "versions": {"torch": "2"},
    "targets": [{"object_name": "apple", "target_count": 7}],
}
TOKEN = {"token": {"placeholder_token": "<count-7>", "sha256": "0" * 64}}
SHIFTS = {"number_shifts": [to_builtins(NumberShift("apple", 0, 5, 7, 2.0, 3, 7))]}


def png(recipe: bytes) -> bytes:
    """An image with any text as its recipe."""
    info, file = PngInfo(), io.BytesIO()
    info.add_text("countgen", recipe)
    Image.new("RGB", (64, 64)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


@given(
    st.one_of(
        *(damaged_text(RECIPE | more).map(png) for more in (TOKEN, SHIFTS, {"backbone": "sd-turbo"})),
        damaged_bytes(png(json.dumps(RECIPE).encode())),
    )
)
def test_a_recipe(folder: Path, content: bytes) -> None:
    def read() -> None:
        (folder / "image.png").write_bytes(content)
        image, recipe = read_png(folder / "image.png")
        check(recipe, size=image.size)
        targets_of(recipe)

    read_or_one_line(read)


@cache
def shipped_token() -> bytes:
    return encoded(next(iter(available_tokens("miniature").values())))


@st.composite
def damaged_token(draw: Any) -> bytes:
    """A shipped token with damage in its bytes, in its header, or in the metadata inside."""
    content = shipped_token()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    where = draw(st.sampled_from(("bytes", "header", "metadata", "metadata")))
    if where == "bytes":
        return bytes(draw(damaged_bytes(content)))
    if where == "header":
        header = draw(damaged_json(header))
    else:
        metadata = json.loads(header["__metadata__"][METADATA_KEY])
        header["__metadata__"][METADATA_KEY] = json.dumps(draw(damaged_json(metadata)))
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


@given(damaged_token())
def test_a_token(content: bytes) -> None:
    def read() -> None:
        assert encoded(decoded(content, "the token")) == shipped_token()  # a change of white space

    read_or_one_line(read, TokenFileError)


DESCRIPTION = yaml.safe_load(OPTIONS["config"].read_text())
DETECTOR = settings(max_examples=max(8, settings().max_examples // 4), deadline=timedelta(seconds=20))


@DETECTOR
@given(
    st.sampled_from(("yolo", "yolo", "yolo_world", "ultralytics_rtdetr")),
    damaged_json(DESCRIPTION).map(lambda changed: yaml.safe_dump(changed).encode())
    | damaged_bytes(OPTIONS["config"].read_bytes()),
)
def test_a_description_of_a_detector(folder: Path, kind: str, content: bytes) -> None:
    (folder / "described.yaml").write_bytes(content)
    read_or_one_line(lambda: load(kind, weights=OPTIONS["weights"], config=folder / "described.yaml"))


@cache
def honest_checkpoint() -> bytes:
    import_ultralytics()  # without its look-ups, as the critics import it
    from ultralytics.nn import tasks

    model = tasks.DetectionModel(copy.deepcopy(DESCRIPTION), nc=24, verbose=False)
    model.names = dict(enumerate(DESCRIPTION["names"]))
    torch.save({"model": model.half()}, file := io.BytesIO())
    return file.getvalue()


@DETECTOR
@given(st.data())
def test_weights_of_a_detector(folder: Path, data: st.DataObject) -> None:
    name, content, config = data.draw(
        st.sampled_from(
            (
                ("weights.safetensors", OPTIONS["weights"].read_bytes(), {"config": OPTIONS["config"]}),
                ("checkpoint.pt", honest_checkpoint(), {}),
            )
        )
    )
    (folder / name).write_bytes(data.draw(damaged_bytes(content)))
    read_or_one_line(lambda: load("yolo", weights=folder / name, **config))


def calibration() -> Any:
    """The document of a complete calibration."""
    made = Calibration("miniature", 1, 0.0, 128, 128, "miniature-yolo", ("cat",), 20, 0, 4)
    for number in range(1, 5):
        made = made.with_point(number, 0.0, {number: 19, 4: 1})
    for offset in (1, 2, 3, 4, -2):
        made = made.with_point(4, float(offset), {4 + offset: 18, 9: 2})
    return to_builtins(made)


@given(st.data())
def test_a_calibration_and_all_that_follows_from_it(folder: Path, data: st.DataObject) -> None:
    path = folder / "calibration.json"

    def read() -> None:
        path.write_bytes(data.draw(damaged_text(calibration())))
        calibrated = load_calibration(path)
        if calibrated.words and not calibrated.left:
            assert calibrated.max_count >= 0
            assert [calibrated.replacement_for(count) for count in (1, 14, 1000)]

    read_or_one_line(read)
