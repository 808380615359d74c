"""Old against new weights: counts, pages of the blind reading, and its result."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import countgen
from benchmarks.studies.cases import one_class
from benchmarks.studies.miniature import grid, weights
from benchmarks.studies.miniature.samples import Sample, samples
from countgen.backbones import Backbone

FOLDER = str(countgen.miniature.FOLDER / "mini-sdxl-turbo")


@pytest.fixture
def key(tmp_path: Path) -> list[tuple[str, int]]:
    """A reading of all 72 cases by old and new weights, without its pages."""
    shuffled = [(name, number) for number in range(72) for name in weights.NAMES]
    (tmp_path / "key.json").write_text(json.dumps(shuffled))
    return shuffled


def test_equal_weights_count_alike(models: countgen.Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "COUNTS", (1, 7))
    text = weights.counted(dict.fromkeys(weights.NAMES, models.backbone), 2)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    by_label = {label: (old, new) for label, old, new in rows}
    assert by_label[f"{countgen.miniature.JUDGE}, n = 4"] == weights.NAMES
    for label, (old, new) in by_label.items():
        if label.startswith(("right", "critic", "mean")):
            assert old == new
    assert by_label["right, 11-12, %"] == ("-", "-")
    assert float(by_label["CPU seconds an image"][0]) > 0
    assert text.count("new against old: 0 won, 0 lost of 4") == 3


def test_more_steps_of_each_folder_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(weights, "COUNTS", (1,))
    monkeypatch.setattr(weights, "MORE_STEPS", (2,))
    empty = tmp_path / "empty"
    shutil.copytree(FOLDER, empty)
    file = empty / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: torch.zeros_like(tensor) for name, tensor in load_file(file).items()}, file)
    steps = []

    def watched(name: str, backbone: Backbone, *arguments: Any) -> list[Sample]:
        steps.append(backbone.num_inference_steps)
        return samples(name, backbone, *arguments)

    monkeypatch.setattr(weights, "samples", watched)
    assert weights.main([str(empty), FOLDER, "--images", "8"]) == 0
    text = capsys.readouterr().out
    row = next(line for line in text.splitlines() if line.startswith("| right, 2 steps, % |"))
    assert row.split("|")[2].strip().startswith("0 [")
    assert "2 steps: new against old: 0 won" not in text
    assert steps == [1, 1, 2, 2]


def test_pages_show_every_image_once_and_its_number(
    models: countgen.Models, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cases = one_class([3], 7, "tuning")
    monkeypatch.setattr(weights, "grid_cases", lambda: cases)
    weights.write_pages(dict.fromkeys(weights.NAMES, models.backbone), tmp_path)
    key = [(name, number) for name, number in json.loads((tmp_path / "key.json").read_text())]
    assert sorted(key) == sorted((name, number) for name in weights.NAMES for number in range(7))
    assert key != sorted(key)
    sizes = []
    for path in sorted(tmp_path.glob("page-*.png")):
        with Image.open(path) as page:
            sizes.append(page.size)
    width, row = weights.IMAGES_A_ROW * weights.SIDE, weights.SIDE + weights.LABEL
    assert sizes == [(width, 3 * row), (width, row)]


def test_a_reading_is_counted_by_weights_and_count(key: list[tuple[str, int]], tmp_path: Path) -> None:
    clear = [place for place, (name, number) in enumerate(key) if name == "new" and number % len(grid.COUNTS) == 1]
    (tmp_path / "clear.txt").write_text(" ".join(map(str, clear)))
    text = weights.read_pages(tmp_path)
    assert "| clear, 6 objects, % | 0 [0, 14] | 100 [86, 100] |" in text
    assert "| clear, 9 objects, % | 0 [0, 14] | 0 [0, 14] |" in text
    assert "| clear images | 0 | 24 |" in text
    assert "new against old: 24 won, 0 lost of 72" in text


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize("answers", ["144", "-1", "3, 4", "3 4 3"])
def test_numbers_that_no_image_has_or_twice_are_refused(answers: str, tmp_path: Path) -> None:
    (tmp_path / "clear.txt").write_text(answers)
    with pytest.raises(ValueError, match=r"clear.txt must hold each number from 0 to 143 at most once"):
        weights.read_pages(tmp_path)


@pytest.mark.usefixtures("key")
def test_an_unfinished_reading_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"clear.txt is missing: write the numbers"):
        weights.read_pages(tmp_path)


@pytest.mark.usefixtures("key")
def test_the_pages_of_another_reading_are_not_overwritten(models: countgen.Models, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds the pages of a reading; give another folder"):
        weights.write_pages(dict.fromkeys(weights.NAMES, models.backbone), tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [[], [FOLDER], [FOLDER, FOLDER, "--images", "0"], [FOLDER, "--read", "x"], [FOLDER, FOLDER, "--read", "x"]],
    ids=" ".join,
)
def test_wrong_arguments_end_with_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        weights.main(arguments)
    assert ended.value.code == 2
    assert "give two pipeline folders" in capsys.readouterr().err
