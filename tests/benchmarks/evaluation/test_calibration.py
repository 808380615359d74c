"""What people's labels say about judges, and accuracies corrected by it."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from countgen.app.cli import main
from countgen.benchmarks.evaluation.calibration import JudgeErrors, calibration, corrected, judge_errors, truth
from countgen.benchmarks.evaluation.labels import Label, save_labels
from countgen.benchmarks.evaluation.records import Record
from tests.benchmarks.evaluation.made_records import record, write_run

pytestmark = pytest.mark.core


def labelled(seed: int, label: int | None, detector: int, counter: int) -> Record:
    counts = {"detector": (detector,), "counter": (counter,)} | ({"human ann": (label,)} if label is not None else {})
    return record("plain", seed, judges=tuple(counts), judge_counts=counts)


def test_judges_errors_and_votes_are_counted_on_labelled_images_only() -> None:
    counts = [(3, 3, 3)] * 4 + [(3, 2, 3)] * 2 + [(4, 3, 2)] + [(2, 2, 2)] * 3 + [(None, 3, 3)] * 10
    records = [labelled(seed, *each) for seed, each in enumerate(counts)]
    found = calibration(records, ["detector", "counter"])
    assert found is not None
    assert found.labelled == 10
    assert found.errors["detector"] == JudgeErrors(right=6, right_found=4, wrong=4, wrong_found=3)
    assert (found.errors["detector"].sensitivity, found.errors["detector"].specificity) == (4 / 6, 3 / 4)
    assert [(level.share, level.images, level.right) for level in found.votes] == [(0, 3, 0), (0.5, 3, 2), (1, 4, 4)]
    assert judge_errors(records, "nobody") == JudgeErrors(0, 0, 0, 0)
    assert calibration([record()], ["detector"]) is None


def test_people_who_differ_are_no_truth() -> None:
    one, other = (record(judge_counts={"human ann": (3,), "human bob": (count,)}) for count in (3, 2))
    assert (truth(one), truth(other), truth(record())) == ((3,), None, None)


def test_with_many_labels_the_correction_is_its_closed_form() -> None:
    many = JudgeErrors(right=60_000, right_found=54_000, wrong=40_000, wrong_found=32_000)
    own = corrected(620, 1000, many)
    assert own.accuracy == pytest.approx(0.62 * 54 / 62 + 0.38 * 6 / 38, abs=1e-4)
    assert own.low < own.accuracy < own.high


def test_what_cannot_be_corrected_is_unknown() -> None:
    assert math.isnan(corrected(5, 10, JudgeErrors(0, 0, 0, 0)).low)
    assert math.isnan(corrected(0, 0, JudgeErrors(10, 4, 10, 6)).low)


@pytest.mark.parametrize(("accuracy", "sensitivity", "specificity"), [(0.2, 0.95, 0.8), (0.5, 0.85, 0.95)])
def test_95_percent_intervals_cover_the_truth_that_often(
    accuracy: float, sensitivity: float, specificity: float
) -> None:
    """Images are right at random and a judge errs at random; people label 200 of the run's 600 images."""
    rng, images, labels, runs = np.random.default_rng(0), 600, 200, 1500
    covered, error = 0, 0.0
    for _ in range(runs):
        right = rng.random(images) < accuracy
        by_judge = np.where(right, rng.random(images) < sensitivity, rng.random(images) >= specificity)
        known, verdicts = right[:labels], by_judge[:labels]
        counts = (known.sum(), (known & verdicts).sum(), (~known).sum(), (~known & ~verdicts).sum())
        interval = corrected(int(by_judge.sum()), images, JudgeErrors(*map(int, counts)))
        covered += interval.low <= accuracy <= interval.high
        error += interval.accuracy - accuracy
    assert 0.93 <= covered / runs <= 0.97
    assert abs(error / runs) < 0.01


def test_a_report_corrects_by_its_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = np.random.default_rng(0).integers(3, 5, (40, 2)).tolist()
    run = str(write_run(tmp_path / "run", [labelled(seed, None, *each) for seed, each in enumerate(counts)]))
    save_labels(run, [Label(f"plain-3-{seed}", "ann", (3 + seed % 2,)) for seed in range(20)])
    assert main(["report", run, "--all", "--json"]) == 0
    (section,) = json.loads(capsys.readouterr().out)["sections"]
    assert section["calibration"]["labelled"] == 20
    assert set(section["methods"][0]["corrected"]) == {"detector", "counter", "unanimous"}
    assert main(["report", run, "--all"]) == 0
    assert "Right, corrected for the judge" in capsys.readouterr().out
