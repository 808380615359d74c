"""Damaged recipes, tokens, detectors and calibrations run nothing, and are one line."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import to_builtins
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from countgen import miniature
from countgen.app.demo.jobs import EXAMPLE_FILE
from countgen.critics import load
from countgen.editing import targets_of
from countgen.images import read_png, read_recipe
from countgen.number_slider import NumberShift, load_calibration
from countgen.recipe import check
from countgen.tokens.file import METADATA_KEY, decoded, encoded
from countgen.tokens.library import available_tokens
from tests.contract.tiny_detectors import tiny, write_checkpoint
from tests.faults.hostile import damaged_bytes, damaged_json, damaged_text, read_or_one_line

OPTIONS = miniature.DETECTORS["miniature-yolo"].options


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that every try writes into anew, made once the libraries are imported, which make their caches then."""
    load("yolo", **OPTIONS)
    return tmp_path_factory.mktemp("hostile")


RECIPE = read_recipe(EXAMPLE_FILE) | {
    "token": {"placeholder_token": "<count-7>", "sha256": "0" * 64},
    "number_shifts": [to_builtins(NumberShift("apple", 0, 5, 7, 2.0, 3, 7))],
}


def png(recipe: bytes) -> bytes:
    """An image with any text as its recipe."""
    info, file = PngInfo(), io.BytesIO()
    info.add_text("countgen", recipe)
    Image.new("RGB", (128, 128)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


@given(damaged_text(RECIPE).map(png) | damaged_bytes(png(json.dumps(RECIPE).encode())))
def test_a_recipe(folder: Path, content: bytes) -> None:
    def read() -> None:
        (folder / "image.png").write_bytes(content)
        image, recipe = read_png(folder / "image.png")
        check(recipe, size=image.size)
        targets_of(recipe)

    read_or_one_line(read)


TOKEN = encoded(next(iter(available_tokens("miniature").values())))
TENSORS = safetensors.torch.load(TOKEN)
HEADER = json.loads(TOKEN[8 : 8 + int.from_bytes(TOKEN[:8], "little")])


def with_metadata(metadata: Any) -> bytes:
    return safetensors.torch.save(TENSORS, {METADATA_KEY: json.dumps(metadata)})


@given(damaged_bytes(TOKEN) | damaged_json(json.loads(HEADER["__metadata__"][METADATA_KEY])).map(with_metadata))
def test_a_token(content: bytes) -> None:
    def read() -> None:
        assert encoded(decoded(content, "the token")) == TOKEN  # a change of white space

    read_or_one_line(read)


DETECTOR = settings(max_examples=max(8, settings().max_examples // 4), deadline=timedelta(seconds=20))


@DETECTOR
@given(
    st.sampled_from(("yolo", "yolo", "yolo_world", "ultralytics_rtdetr")),
    damaged_json(yaml.safe_load(OPTIONS["config"].read_text())).map(lambda changed: yaml.safe_dump(changed).encode())
    | damaged_bytes(OPTIONS["config"].read_bytes()),
)
def test_a_description_of_a_detector(folder: Path, kind: str, content: bytes) -> None:
    (folder / "described.yaml").write_bytes(content)
    read_or_one_line(lambda: load(kind, weights=OPTIONS["weights"], config=folder / "described.yaml"))


@cache
def checkpoint(folder: Path) -> bytes:
    return write_checkpoint(tiny("miniature-yolo"), folder / "honest.pt").read_bytes()


@DETECTOR
@given(st.data(), st.booleans())
def test_weights_of_a_detector(folder: Path, data: st.DataObject, pickled: bool) -> None:
    content = checkpoint(folder) if pickled else OPTIONS["weights"].read_bytes()
    path, config = (folder / "a.pt", {}) if pickled else (folder / "a.safetensors", {"config": OPTIONS["config"]})
    path.write_bytes(data.draw(damaged_bytes(content)))
    read_or_one_line(lambda: load("yolo", weights=path, **config))


@given(damaged_text(json.loads((miniature.FOLDER / "calibrations" / "miniature.json").read_bytes())))
def test_a_calibration_and_all_that_follows_from_it(folder: Path, content: bytes) -> None:
    def read() -> None:
        (folder / "calibration.json").write_bytes(content)
        calibrated = load_calibration(folder / "calibration.json")
        if calibrated.words and not calibrated.left:
            assert calibrated.max_count >= 0
            assert [calibrated.replacement_for(count) for count in (1, 14, 1000)]

    read_or_one_line(read)
