"""What people's labels say about judges, and accuracies corrected by it."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from countgen.app.cli import main
from countgen.benchmarks.evaluation.calibration import (
    JudgeErrors,
    calibration,
    corrected,
    corrected_by,
    judge_errors,
    truth,
)
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


def test_with_many_labels_the_corrections_are_their_closed_forms() -> None:
    many = JudgeErrors(right=60_000, right_found=54_000, wrong=40_000, wrong_found=32_000)
    by_others = corrected_by(500, 1000, many)
    assert by_others.accuracy == pytest.approx((0.5 + 0.8 - 1) / (0.9 + 0.8 - 1))
    own = corrected(620, 1000, many)
    assert own.accuracy == pytest.approx(0.62 * 54 / 62 + 0.38 * 6 / 38, abs=1e-4)
    assert own.low < own.accuracy < own.high


@pytest.mark.parametrize("errors", [JudgeErrors(0, 0, 0, 0), JudgeErrors(5, 5, 0, 0), JudgeErrors(10, 4, 10, 6)])
def test_what_cannot_be_corrected_is_unknown(errors: JudgeErrors) -> None:
    assert math.isnan(corrected_by(5, 10, errors).accuracy)
    assert math.isnan(corrected(5, 10, JudgeErrors(0, 0, 0, 0)).low)
    assert math.isnan(corrected(0, 0, errors).low)


@pytest.mark.parametrize("own", [True, False], ids=["labels of the run", "labels of other images"])
@pytest.mark.parametrize(("accuracy", "sensitivity", "specificity"), [(0.2, 0.95, 0.8), (0.5, 0.85, 0.95)])
def test_95_percent_intervals_cover_the_truth_that_often(
    own: bool, accuracy: float, sensitivity: float, specificity: float
) -> None:
    """Images are right at random and a judge errs at random; people label 200 of the run's 600 images, or others."""
    rng, images, labels, runs = np.random.default_rng(0), 600, 200, 1500
    covered, error = 0, 0.0
    for _ in range(runs):
        right = rng.random(images) < accuracy
        known = right[:labels] if own else rng.random(labels) < 0.5
        by_judge, by_judge_of_known = (
            np.where(truth, rng.random(len(truth)) < sensitivity, rng.random(len(truth)) >= specificity)
            for truth in (right, known)
        )
        verdicts = by_judge[:labels] if own else by_judge_of_known
        counts = (known.sum(), (known & verdicts).sum(), (~known).sum(), (~known & ~verdicts).sum())
        corrects = corrected if own else corrected_by
        interval = corrects(int(by_judge.sum()), images, JudgeErrors(*map(int, counts)))
        covered += interval.low <= accuracy <= interval.high
        error += interval.accuracy - accuracy
    assert 0.93 <= covered / runs <= 0.97
    assert abs(error / runs) < 0.01


def test_a_report_corrects_by_its_own_labels_and_by_those_of_another_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = np.random.default_rng(0).integers(3, 5, (40, 2)).tolist()
    run = str(write_run(tmp_path / "run", [labelled(seed, None, *each) for seed, each in enumerate(counts)]))
    save_labels(run, [Label(f"plain-3-{seed}", "ann", (3 + seed % 2,)) for seed in range(20)])
    assert main(["report", run, "--all", "--json"]) == 0
    (section,) = json.loads(capsys.readouterr().out)["sections"]
    assert section["calibration"]["labelled"] == 20
    assert set(section["methods"][0]["corrected"]) == {"detector", "counter", "unanimous"}
    assert main(["report", run, "--calibration", run, "--json"]) == 0
    (other,) = json.loads(capsys.readouterr().out)["sections"]
    assert other["methods"][0]["corrected"]["detector"] != section["methods"][0]["corrected"]["detector"]
    assert main(["report", run, "--all"]) == 0
    assert "Right, corrected for the judge" in capsys.readouterr().out
