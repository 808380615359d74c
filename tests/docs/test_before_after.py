"""docs/before_after.py makes the README's picture."""

from importlib import import_module
from pathlib import Path

import pytest


def test_the_picture_has_an_image_above_its_edit_for_each_prompt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "docs")
    script = import_module("before_after")
    picture = script.sheet(["a photo of nine butterflies", "a photo of ten strawberries"])
    assert picture.size == (2 * 256 + script.GAP, 2 * 256 + script.GAP)
    assert capsys.readouterr().out.splitlines()[0].startswith("a photo of nine butterflies: (")
