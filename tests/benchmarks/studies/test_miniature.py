"""The miniature's card: scenes, tables, page, and the document it is written into."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

import countgen
from benchmarks.studies.cases import one_class
from benchmarks.studies.miniature import __main__ as miniature
from benchmarks.studies.miniature import grid, samples, scenes, times
from benchmarks.studies.miniature.samples import Sample
from countgen.miniature.world import OBJECT_NAMES
from critics.detectors.density import DensityCritic
from critics.networks import density


def test_fresh_scenes_have_the_count_asked_for_and_are_always_the_same() -> None:
    for total in (0, 1, 7, 20):
        fresh = scenes.fresh_scenes(total, 30)
        assert [scene.total for scene in fresh] == [total] * 30
        assert scenes.true_counts(fresh).sum(1).tolist() == [total] * 30
        assert fresh == scenes.fresh_scenes(total, 30)
        assert sum(len(scene.groups) == 2 for scene in fresh) == (6 if total >= 2 else 0)


def test_few_objects_are_counted_right_by_every_detector(
    models: countgen.Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenes, "COUNTS", (0, 2))
    detectors = [*models.critics, models.judge]
    found = scenes.sightings(detectors, models.backbone.pipeline.vae, 4)
    assert len(found) == 2 * 4 * len(scenes.KINDS) * len(detectors)
    for detector in detectors:
        mine = [sighting.right for sighting in found if sighting.detector == detector.name]
        assert sum(mine) >= 0.8 * len(mine)


def test_a_critic_without_boxes_counts_by_itself() -> None:
    critic = DensityCritic(density.build(len(OBJECT_NAMES)), OBJECT_NAMES)
    images = torch.rand(2, 3, 128, 128)
    found = scenes.counter_of(critic)(images, [0.5])
    assert torch.equal(found[0], critic.counts(images, OBJECT_NAMES))


def test_samples_of_one_prompt_equal_their_singles(models: countgen.Models) -> None:
    cases = [
        case for case in one_class([3], 25, "reporting") if case.prompt == one_class([3], 1, "reporting")[0].prompt
    ]
    assert len(cases) == 2
    together = dict(samples.draw(models.backbone, cases))
    for case in cases:
        ((_, alone),) = samples.draw(models.backbone, [case])
        torch.testing.assert_close(together[case], alone, atol=1e-4, rtol=0)


def test_tables_hold_the_judges_accuracy_and_the_share_of_equal_counts() -> None:
    found = [
        Sample("one", "cat", 2, {"a": 2, "b": 2}),
        Sample("one", "cat", 2, {"a": 3, "b": 2}),
        Sample("one", "duck", 12, {"a": 12, "b": 10}),
        Sample("two", "cat", 2, {"a": 2, "b": 2}),
    ]
    rows = samples.count_table(found, "a").splitlines()
    assert next(row for row in rows if row.startswith("| 2 |")) == "| 2 | 50 | 100 |"
    assert next(row for row in rows if row.startswith("| 3 |")) == "| 3 | - | - |"
    assert any(row.startswith("| **all** | 67 [") for row in rows)
    assert "| mean error, objects | 0.33 | 0.00 |" in rows
    objects = samples.object_table(found, "a", ["one", "two"])
    assert "| cat | 50 | 100 |  |" in objects
    assert "| duck | 100 | - | at any count |" in objects
    assert "| a, b | 33 [" in samples.agreement_table(found, ["a", "b"], ["one", "two"])


@pytest.mark.slow
def test_the_page_shows_every_object_at_every_count(models: countgen.Models, tmp_path: Path) -> None:
    cases = grid.grid_cases()
    assert len({case.targets for case in cases}) == 24 * len(grid.COUNTS)
    path = tmp_path / "docs" / "page.jpg"
    grid.save(grid.grid(models.backbone, cases[:6]), path)
    with Image.open(path) as page:
        assert page.width > 6 * 128
        assert page.height > 128


def test_times_are_above_nothing_and_leave_the_models_without_gradient(models: countgen.Models) -> None:
    table = times.table({"name": models.backbone}, models.critics[0], 1)
    assert all(float(cell) > 0 for cell in table.splitlines()[-1].strip("| ").split(" | ")[1:])
    assert all(parameter.grad is None for parameter in models.backbone.denoiser.parameters())


def test_the_card_replaces_what_is_between_its_markers_only() -> None:
    text = f"before\n{miniature.BEGIN}\nold\n{miniature.END}\nafter\n"
    once = miniature.replaced(text, "new")
    assert once == f"before\n{miniature.BEGIN}\n\nnew\n\n{miniature.END}\nafter\n"
    assert miniature.replaced(once, "new") == once
    with pytest.raises(ValueError, match="markers"):
        miniature.replaced("no markers", "new")


@pytest.mark.slow
def test_the_command_writes_card_page_and_checksums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    card = tmp_path / "README.md"
    card.write_text(f"# Title\n\n{miniature.BEGIN}\n{miniature.END}\n", encoding="utf-8")
    monkeypatch.setattr(miniature, "CARD", card)
    monkeypatch.setattr(miniature, "QUICK", miniature.Size(scenes=1, samples=1, more_steps=1, repeats=1))
    monkeypatch.setattr(miniature.samples, "MORE_STEPS", (2,))
    monkeypatch.setattr(samples, "COUNTS", (1, 3))
    monkeypatch.setattr(scenes, "COUNTS", (0, 2))
    monkeypatch.setattr(grid, "COUNTS", (1,))
    page = tmp_path / "page.jpg"
    assert miniature.main(["--quick", "--write", "--page", str(page), "--threads", "1"]) == 0
    written = card.read_text(encoding="utf-8")
    assert written.startswith("# Title")
    assert "SDXL-shaped, 2 steps" in written
    assert capsys.readouterr().out.strip() in written
    assert page.is_file()
    assert "README.md" in (tmp_path / "SHA256SUMS").read_text()


def test_the_miniatures_readme_has_a_place_for_the_card() -> None:
    assert "kept" in miniature.replaced(miniature.CARD.read_text(encoding="utf-8"), "kept")
