"""Finished runs that several files read, and the settings of a small one."""

from dataclasses import replace
from pathlib import Path

import pytest

from countgen.benchmarks.evaluation.plan import RunSettings, suite_digest
from tests.benchmarks.evaluation.made_records import table_run
from tests.faults.crash_consistency import settings

APPLES = (3, 2, 5, 4)
"""Numbers of apples in the images of `judged_run`, and in their prompts."""


@pytest.fixture(scope="session")
def made_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that no model made: plain is right at 3 of 8, auto at 6 of 8, and one image failed."""
    return table_run(tmp_path_factory.mktemp("made") / "run")


@pytest.fixture(scope="session")
def judged_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four given images of apples, `0.png` and on beside the folder, judged by miniature-fcos."""
    import torch

    from countgen.app.cli import main
    from countgen.benchmarks.miniature.world import Scene, load_sprites, render
    from countgen.images import save_png
    from countgen.miniature.world import OBJECT_NAMES

    folder = tmp_path_factory.mktemp("given")
    scenes = [Scene(((OBJECT_NAMES.index("apple"), number),), 0) for number in APPLES]
    rows = ["prompt,targets,image"]
    for number, image in enumerate(render(scenes, load_sprites(), torch.Generator().manual_seed(1)).images):
        save_png(image, folder / f"{number}.png")
        rows.append(f"a photo of {APPLES[number]} apples,apple={APPLES[number]},{number}.png")
    (folder / "mine.csv").write_text("\n".join(rows))
    words = ["--images", str(folder / "mine.csv"), "--out", str(folder / "run"), "--judge", "miniature-fcos"]
    assert main(["eval", *words]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("suite") / "mine.txt"
    path.write_text("two apples\na photo of three cats and two dogs\nfour unicorns\n")
    return str(path)


@pytest.fixture(scope="module")
def asked(suite: str) -> RunSettings:
    return replace(
        settings(1),
        suite=suite,
        suite_sha256=suite_digest(suite),
        limit=None,
        methods=("plain", "search", "noise", "plain+as-written"),
        max_evaluations=6,
        first_seed=5,
    )
