"""`CountAccuracy` logs what the evaluator reports, in one process and in several."""

import doctest

import pytest
import torch

from countgen import metrics
from countgen.benchmarks.evaluation.metrics import scores
from countgen.critics import NO_ANSWER
from countgen.metrics import CountAccuracy
from tests.benchmarks.evaluation.made_records import record

NAMES = ("accuracy", "off_by_one", "partial", "mae", "rmse", "bias")
TARGETS = torch.arange(8) % 4 + 1
COUNTS = TARGETS + torch.tensor([0, 1, 0, -2, 0, 0, 3, 0])


def test_it_equals_the_evaluator_and_its_example_holds() -> None:
    answers: list[tuple[int, int] | None] = [(3, 2), (3, 1), None, (5, 1), (0, 2)]

    def judged(answer: tuple[int, int] | None) -> dict[str, tuple[int, int]]:
        return {"detector": answer} if answer else {}

    records = [
        record(seed=seed, wanted={"apple": 3, "dog": 2}, critic_counts=(0, 0), judge_counts=judged(answer))
        for seed, answer in enumerate(answers)
    ]
    metric = CountAccuracy()
    metric.update([answer or (NO_ANSWER, 2) for answer in answers], [(3, 2)] * 5)
    found, reported = metric.compute(), scores(records, "detector")
    assert {name: found[name].item() for name in NAMES} == pytest.approx({n: getattr(reported, n) for n in NAMES})
    assert found["accuracy_5"] == reported.accuracy
    assert doctest.testmod(metrics).failed == 0


def test_images_may_have_different_numbers_of_objects_and_a_reset_forgets_them() -> None:
    metric = CountAccuracy()
    metric.update([[5], [2, 2]], [[5], [2, 3]])
    assert (metric.compute()["accuracy"], metric.compute()["mae"]) == (0.5, pytest.approx(1 / 3))
    metric.reset()
    metric.update([], [])
    assert metric.compute()["accuracy"].isnan()


@pytest.mark.parametrize(
    ("counts", "targets", "message"),
    [
        (torch.tensor([4.7]), [5], "whole numbers"),
        ([5], [[5, 1]], "same shape"),
        ([], [5], "same shape"),
        ([[]], [[]], "whole numbers"),
        ([5], [-1], "at least 0"),
        ([5], [1001], "at most 1000"),
    ],
)
def test_soft_counts_and_other_shapes_are_errors(counts: object, targets: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CountAccuracy().update(counts, targets)  # type: ignore[arg-type]


def test_two_processes_find_what_one_does() -> None:
    alone, other = CountAccuracy(), CountAccuracy()
    alone.update(COUNTS, TARGETS)
    other.update(COUNTS[1::2], TARGETS[1::2])
    of_other = iter(other.metric_state.values())
    # What torchmetrics calls in place of `torch.distributed.all_gather`, state by state.
    first = CountAccuracy(dist_sync_fn=lambda own, group: [own, next(of_other)], distributed_available_fn=lambda: True)
    first.update(COUNTS[::2], TARGETS[::2])
    assert first.compute() == alone.compute()
