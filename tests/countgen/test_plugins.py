"""Plug-ins: the example of the documents in an environment of its own, and what breaks."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

import countgen
from countgen import methods, plugins
from countgen.critics.candidates import Candidates
from countgen.critics.losses import margin_loss
from countgen.methods.noise import noise
from countgen.methods.refinement import RefinementSettings
from countgen.methods.settings import as_dict

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs/plugin-example"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables of an environment in which the example package is installed."""
    folder = tmp_path_factory.mktemp("site")
    source = folder / "source"
    subprocess.run(["cp", "-r", str(EXAMPLE), str(source)], check=True)  # a build leaves files behind
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--target", str(folder / "installed"), str(source)], check=True)
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(folder / "installed"), str(ROOT)))}


def countgen_command(environment: dict[str, str], folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "countgen", *arguments]
    finished = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    assert finished.returncode <= 1, finished.stderr
    assert "Traceback" not in finished.stderr
    return finished.stdout


def test_the_example_generates_and_is_evaluated(environment: dict[str, str], tmp_path: Path) -> None:
    words = "--method pairs --critic sure_yolo --set most_pairs=2 --out images".split()
    assert "of 2 apples" in countgen_command(environment, tmp_path, "generate", "a photo of two apples", *words)
    words = "--suite study-many --methods pairs,noise --set noise.loss=squared --limit 1 --max-evaluations 6".split()
    countgen_command(environment, tmp_path, "eval", "--out", "run", *words)
    assert "failed" not in (tmp_path / "run/records.jsonl").read_text()
    settings = (tmp_path / "run/settings.json").read_text()
    assert "pairs of countgen-example 1.0" in settings


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EntryPoint]]:
    """Entry points of the group `countgen.methods`, in place of the installed ones."""
    declared: list[EntryPoint] = []
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point for point in declared if point.group == group])
    plugins._points.cache_clear()
    yield declared
    plugins._points.cache_clear()


def test_a_broken_plugin_is_listed_and_stops_only_who_asks_for_it(
    points: list[EntryPoint], models: countgen.Models
) -> None:
    points.append(EntryPoint("broken", "no_such_module:broken", "countgen.methods"))
    assert "broken" in methods.available()
    countgen.generate("a photo of two apples", models, method="plain")
    with pytest.raises(ValueError, match=r"broken of the package .* no_such_module"):
        countgen.generate("a photo of two apples", models, method="broken")


def test_a_method_and_a_loss_are_taken_as_functions(models: countgen.Models) -> None:
    asked = []

    def own_loss(candidates: Candidates, target_count: int, threshold_logit: float, *more: Any) -> Tensor:
        asked.append(target_count)
        return margin_loss(candidates, target_count, threshold_logit)

    def own_method(problem: Any, seed: int, budget: Any, settings: RefinementSettings) -> Iterator[countgen.Step]:
        yield from noise(problem, seed, budget, settings)

    settings = RefinementSettings(loss=own_loss)
    own = countgen.generate("a photo of nine cats", models, method=own_method, settings=settings, max_evaluations=8)
    usual = countgen.generate("a photo of nine cats", models, method="noise", max_evaluations=8)
    assert set(asked) == {9}
    assert own.image.equal(usual.image)
    assert (own.method, own.recipe["method"]) == ("own_method", "own_method")
    assert as_dict(settings)["loss"].endswith("own_loss")
    with pytest.raises(ValueError, match="annotated"):
        countgen.Run("a photo of nine cats", models, method=lambda *arguments: iter(()))
