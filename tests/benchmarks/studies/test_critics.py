"""The faithfulness report and the sweep, at toy size."""

import json
from itertools import islice
from pathlib import Path

import pytest
import torch

from benchmarks.studies.critics import __main__ as critics
from benchmarks.studies.critics.known_scenes import CONDITIONS, COUNTS, known_scenes
from benchmarks.studies.critics.readings import (
    OVERLAPS,
    STEEPNESSES,
    THRESHOLDS,
    Readings,
    add_counts,
    by_threshold,
    with_overlap,
)
from benchmarks.studies.critics.tables import FAITHFUL, sweep
from countgen import miniature

pytest.importorskip("matplotlib")


@pytest.mark.slow
def test_the_report_covers_every_critic_condition_and_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = list(miniature.DETECTORS)
    assert critics.main(["--scenes", "21", "--out", str(tmp_path), "--threads", "1"]) == 0
    figures = json.loads((tmp_path / "report.json").read_text())
    assert figures["scenes"] == len(COUNTS)
    assert set(figures["by_count"]) == set(figures["seconds"]) == set(names)
    for by_condition in figures["by_count"].values():
        assert {condition: len(shares) for condition, shares in by_condition.items()} == dict.fromkeys(CONDITIONS, 21)
    assert all(value >= 0 for by_column in figures["mae"].values() for value in by_column.values())
    assert (tmp_path / "report.md").read_text().strip() == capsys.readouterr().out.strip()
    for name in ("exact-by-count", "settings"):
        assert "</svg>" in (tmp_path / f"{name}.svg").read_text()
    assert (tmp_path / "soft-against-hard.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scenes", "21"], "docs/critics holds what 2100 scenes and all embedded critics say"),
        (["--critics", "miniature-yolo", "--sweep"], "docs/critics holds what 630 scenes"),
        (["--critics", "miniature-yolo", "fcos:nowhere.safetensors", "--out", "x"], "no detector weights at nowhere"),
        (["--critics", "yollo:best.pt", "--out", "x"], "Did you mean yolo"),
    ],
)
def test_the_committed_report_is_not_overwritten_by_a_small_one_and_wrong_critics_are_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        critics.main(arguments)
    assert message in capsys.readouterr().err


def test_known_scenes_are_drawn_anew_for_tuning_and_for_reporting_and_the_same_each_time() -> None:
    first, again, other = (next(known_scenes(1, purpose)) for purpose in ("tuning", "tuning", "reporting"))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


def test_readings_are_what_the_critic_counts() -> None:
    critic, readings = miniature.load_detector("miniature-yolo"), Readings()
    scenes = next(known_scenes(6, "tuning"))
    add_counts(critic, scenes, readings)
    assert len(set(scenes.object_names)) > 1
    first_seen = list(dict.fromkeys(scenes.object_names))
    rows = sorted(range(6), key=lambda row: first_seen.index(scenes.object_names[row]))
    alone = [critic.count(scenes.images[row], scenes.object_names[row]) for row in rows]
    assert readings.hard == alone
    proposals = critic.propose(scenes.images, ["apple"])
    assert with_overlap(critic, proposals, 0.5).tolist() == critic.counts(scenes.images, ["apple"])[:, 0].tolist()
    assert len(readings.by_threshold[0]) == len(THRESHOLDS)
    assert critic.nms_iou == miniature.load_detector("miniature-yolo").nms_iou


@pytest.mark.slow
@pytest.mark.parametrize("name", ["miniature-yolo", "miniature-heatmap", "miniature-fcos"])
def test_counts_at_every_threshold_are_those_of_a_critic_with_that_threshold(name: str) -> None:
    critic = miniature.load_detector(name)
    images = torch.cat([scenes.images for scenes in islice(known_scenes(1, "tuning"), 0, 72, 9)])  # every condition
    with torch.no_grad():
        found = by_threshold(critic, critic.propose(images, ["apple"]))
    for threshold, counts in zip(THRESHOLDS, found.unbind(1), strict=True):
        critic.threshold = threshold
        assert critic.counts(images, ["apple"])[:, 0].tolist() == counts.tolist()


def test_the_sweep_chooses_the_middle_of_the_best_thresholds_and_the_lowest_faithful_steepness() -> None:
    truth = [2, 3, 5, 8] * 10
    right = [0.3 <= threshold <= 0.5 for threshold in THRESHOLDS]
    readings = Readings(
        threshold=0.25,
        nms_iou=0.5,
        steepness=4.0,
        condition=["plain"] * 40,
        truth=truth,
        hard=truth,
        soft=[float(n) for n in truth],
        by_threshold=[[n if good else n + 1 for good in right] for n in truth],
        by_overlap=[[n + (overlap > 0.5) for overlap in OVERLAPS] for n in truth],
        by_steepness=[[n + 0.55 / steepness for steepness in STEEPNESSES] for n in truth],
    )
    _, figures = sweep({"critic": readings})
    assert figures["critic"]["threshold"] == 0.4
    assert figures["critic"]["NMS IoU"] == 0.45
    assert figures["critic"]["steepness"] == 8.0
    assert 0.55 / 8 <= FAITHFUL < 0.55 / 4
