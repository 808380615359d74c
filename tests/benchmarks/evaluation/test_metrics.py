"""Every figure agrees with a slow loop over random tables, and with small tables counted by hand."""

import math
import random
from collections.abc import Sequence

import pytest

from countgen.benchmarks.evaluation.comparison import agreement, compare, difference, pairs
from countgen.benchmarks.evaluation.compute import compute_curve, first_right
from countgen.benchmarks.evaluation.labels import Label
from countgen.benchmarks.evaluation.metrics import (
    by_arm,
    by_count,
    by_level,
    confidence,
    evaluated_by,
    preservation,
    scores,
    with_labels,
)
from countgen.benchmarks.evaluation.records import Record
from tests.benchmarks.evaluation.made_records import JUDGES, random_records, record

pytestmark = pytest.mark.core

EVERY_JUDGE = (*JUDGES, "critic")


def found(one: Record, judge: str) -> list[int] | None:
    """What the slow oracle reads off a record."""
    if one.status == "failed":
        return None
    return list(one.critic_counts if judge == "critic" else one.judge_counts[judge])


def right(one: Record, judge: str) -> bool:
    counted = found(one, judge)
    if counted is None:
        return False
    return all(counted[index] == target.target_count for index, target in enumerate(one.targets))


def same(value: float, expected: float) -> bool:
    return value == pytest.approx(expected, nan_ok=True, abs=1e-9)


def test_scores_agree_with_a_slow_oracle_on_random_tables() -> None:
    rng = random.Random(0)
    for _ in range(24):
        records, judge = random_records(rng), rng.choice(EVERY_JUDGE)
        check_scores(records, judge)
        for groups in (by_count(records), by_level(records), by_arm(records)):
            assert sum(map(len, groups.values())) == len(records)
            for group in groups.values():
                check_scores(group, judge)
        check_curve(records)
        first, second = ([r for r in records if r.method == name] for name in ("auto", "plain"))
        check_comparison(first, second, judge)


def check_scores(records: Sequence[Record], judge: str) -> None:
    errors, close = [], 0
    for one in records:
        counted = found(one, judge)
        if counted is None:
            continue
        mine = [counted[i] - one.targets[i].target_count for i in range(len(counted))]
        errors += mine
        close += max(abs(error) for error in mine) <= 1
    number = len(errors)
    mine = scores(records, judge)
    assert mine.images == len(records)
    assert mine.failed == len([one for one in records if one.status == "failed"])
    assert mine.right == len([one for one in records if right(one, judge)])
    assert mine.close == close
    assert same(mine.accuracy, mine.right / len(records) if records else math.nan)
    assert same(mine.off_by_one, close / len(records) if records else math.nan)
    assert same(mine.mae, sum(abs(e) for e in errors) / number if number else math.nan)
    assert same(mine.rmse, math.sqrt(sum(e * e for e in errors) / number) if number else math.nan)
    assert same(mine.bias, sum(errors) / number if number else math.nan)


def check_curve(records: Sequence[Record]) -> None:
    for axis, budgets in (("evaluations", (0, 1, 2.5, 5, 9, 100)), ("seconds", (0, 0.125, 0.3, 0.625, 2))):
        curve = compute_curve(records, axis)
        for budget in budgets:
            share = 0
            for one in records:
                best = False
                for evaluations, seconds, is_right in one.trace:
                    if (evaluations if axis == "evaluations" else seconds) <= budget:
                        best = is_right
                share += best
            assert same(curve.at(budget), share / len(records) if records else math.nan)


def check_comparison(first: Sequence[Record], second: Sequence[Record], judge: str) -> None:
    won = lost = cases = 0
    errors = []
    for a in first:
        for b in second:
            if (a.prompt, a.seed) != (b.prompt, b.seed):
                continue
            cases += 1
            won += right(a, judge) and not right(b, judge)
            lost += right(b, judge) and not right(a, judge)
            x, y = found(a, judge), found(b, judge)
            if x is not None and y is not None:
                wanted = [target.target_count for target in a.targets]
                errors.append(
                    sum(abs(n - w) for n, w in zip(x, wanted, strict=True))
                    - sum(abs(n - w) for n, w in zip(y, wanted, strict=True))
                )
    mine = compare(first, second, judge)
    assert (mine.duel.cases, mine.duel.won, mine.duel.lost) == (cases, won, lost)
    assert mine.unpaired == len(first) + len(second) - 2 * cases
    assert same(mine.accuracy.mean, (won - lost) / cases if cases else math.nan)
    assert same(mine.error.mean, sum(errors) / len(errors) if errors else math.nan)
    assert mine.error.cases == len(errors)


def test_a_failed_image_is_wrong_and_said_but_has_no_error() -> None:
    mine = scores([record(counted=None), record(seed=1), record(seed=2, counted=5)], "detector")
    assert (mine.images, mine.failed, mine.right, mine.mae, mine.bias) == (3, 1, 1, 1.0, 1.0)


def test_partial_credit_is_that_of_t2i_compbench() -> None:
    two = {"wanted": {"apple": 3, "dog": 2}, "critic_counts": (3, 2)}
    counted = [(3, 2), (3, 1), (3, 0), (0, 0), (4, 5)]  # 1, 0.75, 0.5, 0, 0.5
    records = [record(seed=seed, judge_counts={"detector": found}, **two) for seed, found in enumerate(counted)]
    assert scores(records, "detector").partial == pytest.approx((1 + 0.75 + 0.5 + 0 + 0.5) / 5)
    records += [record(seed=9, judge_counts={}, **two), record(seed=10, counted=None, wanted=two["wanted"])]
    assert scores(records, "detector").partial == pytest.approx(2.75 / 7)
    assert math.isnan(scores([], "detector").partial)


def test_labels_make_a_person_a_judge_of_the_images_they_counted_only() -> None:
    records = [record(seed=seed, counted=3 + seed % 2) for seed in range(4)]
    labelled = with_labels(records, [Label(one.key, "ann", (3,)) for one in records[:2]])
    assert [r.key for r in evaluated_by(labelled, "human ann")] == [r.key for r in records[:2]]
    assert scores(labelled, "human ann").right == 2
    assert scores(labelled, "detector").images == 4
    mine = agreement(labelled, "detector", "human ann")
    assert (mine.counts, mine.equal) == (2, 0.5)


def test_an_image_is_the_same_one_where_objects_and_background_are_kept() -> None:
    kept = {"objects_kept": 0.8, "background_change": 0.1, "structural_similarity": 0.9}
    records = [
        record("edit", 1, **kept),
        record("edit", 2, counted=2, **kept),
        record("edit", 3, **kept | {"objects_kept": 0.7}),
        record("edit", 4, **kept | {"background_change": 0.11}),
    ]
    found = preservation([*records, record("edit", 5)])  # an older record has no such measures
    assert found is not None
    assert (found.images, found.same_and_right) == (4, 1)
    assert found.objects_kept == pytest.approx(0.775)
    assert found.background_change == pytest.approx(0.1025)
    assert preservation([record("edit", 5)]) is None


def test_groups_come_in_their_order_and_every_object_must_be_right() -> None:
    assert list(by_level([record(asked=n) for n in (20, 12, 1, 6)])) == ["easy", "medium", "hard", "beyond"]
    assert list(by_count([record(asked=n) for n in (20, 12, 1, 6)])) == [1, 6, 12, 20]
    assert list(by_arm([record("auto"), record("plain")])) == ["auto", "plain"]
    assert list(by_arm([record("auto"), record("auto", backbone="sdxl")])) == ["miniature auto", "sdxl auto"]
    half = record(wanted={"apple": 3, "dog": 2}, critic_counts=(3, 2), judge_counts={"detector": (3, 9)})
    assert scores([half], "detector").right == 0


def test_first_right_waits_for_the_judge_and_knows_what_never_came() -> None:
    late = record(trace=((1, 0.1, False), (4, 0.5, True), (9, 1.0, False)))
    never = record(seed=1, trace=((1, 0.1, False),))
    mine = first_right([late, late, never])
    assert (mine.images, mine.never, mine.evaluations, mine.seconds) == (3, 1, 4, 0.5)
    assert first_right([late, never]).seconds == math.inf
    assert math.isnan(first_right([]).seconds)


def test_a_curve_falls_again_where_a_better_looking_candidate_is_wrong() -> None:
    curve = compute_curve([record(trace=((1, 0.1, False), (4, 0.5, True), (9, 1.0, False)))], "evaluations")
    assert [curve.at(budget) for budget in (0, 3, 4, 8, 9)] == [0, 0, 1, 1, 0]


def test_confidence_is_compared_on_images_that_both_drew() -> None:
    first = [record("auto", seed, confidence={"detector": 0.6}) for seed in range(3)]
    second = [record("plain", 0), record("plain", 1, counted=None), record("plain", 2)]
    mine = difference(pairs(first, second), lambda one: confidence(one, "detector"))
    assert mine.cases == 2
    assert mine.mean == pytest.approx(-0.2)
