"""What the tests of commands share: images that were generated once, and ways to run a command."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import diffusers
import pytest

import countgen
from countgen.app.cli import main
from countgen.images import read_png, save_png
from countgen.recipe import plain

ASSETS = Path(str(find_spec("ultralytics").origin)).parent / "assets"  # type: ignore[union-attr]
BUS = str(ASSETS / "bus.jpg")
EVIL = "\x1b]0;owned\x07\x9b2J\u202eegami\r\n" + "long " * 5000
"""Control sequences that set the title, clear the screen and reverse the text direction, and a long text."""

Images = dict[str, Path]
Answer = Callable[..., tuple[int, dict[str, Any]]]
ErrorOf = Callable[..., str]


def errors_in(text: str) -> list[str]:
    """Return the lines without those that are printed where models take long to load."""
    return [line for line in text.splitlines() if not line.startswith(("loading ", "... "))]


@pytest.fixture(scope="session")
def images(models: countgen.Models, tmp_path_factory: pytest.TempPathFactory) -> Images:
    """PNGs of a seed found in a batch, one that gradients moved, and the plain one; no test changes them."""
    folder = tmp_path_factory.mktemp("images")
    searched = countgen.generate("a photo of five cats", models, method="search", seed=0)
    refined = countgen.generate("a photo of fourteen cats", models, method="noise", seed=1, max_evaluations=12)
    return {
        "searched": save_png(searched.image, folder / "searched.png", searched.recipe),
        "refined": save_png(refined.image, folder / "refined.png", refined.recipe),
        "plain": save_png(searched.before, folder / "plain.png", plain(searched.recipe)),
    }


def changed(path: Path, folder: Path, **fields: object) -> Path:
    """Write the same pixels with another recipe; None takes a field away."""
    image, recipe = read_png(path)
    recipe = {key: value for key, value in (recipe | fields).items() if value is not None}
    return save_png(image, folder / "changed.png", recipe, overwrite=True)


@pytest.fixture
def answer(capsys: pytest.CaptureFixture[str]) -> Answer:
    """Return a function that runs a command with --json and returns its exit code and its object."""

    def run(*words: object) -> tuple[int, dict[str, Any]]:
        capsys.readouterr()
        code = main([*map(str, words), "--json"])
        return code, json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def error_of(capsys: pytest.CaptureFixture[str]) -> ErrorOf:
    """Return a function that runs a command with bad input and returns its one line of error."""

    def run(*words: object) -> str:
        capsys.readouterr()
        assert main(list(map(str, words))) == 2
        (error,) = errors_in(capsys.readouterr().err)
        assert error.startswith("countgen")
        assert error.isprintable()
        return error

    return run


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every read of a pipeline or its modules fail."""

    def never(*_: object, **__: object) -> None:
        raise SystemExit("a model was read")  # which nothing on the way catches

    for owner in (diffusers.DiffusionPipeline, diffusers.ModelMixin):
        monkeypatch.setattr(owner, "from_pretrained", classmethod(never))
