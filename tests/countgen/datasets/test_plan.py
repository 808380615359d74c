from collections import Counter
from pathlib import Path

import pytest

from countgen.datasets import Group, Plan, read_plan
from countgen.methods.seeds import SEED_STRIDE

pytestmark = pytest.mark.core
YAML = """
groups:
  - {objects: {apples: 1-2, cat: 3}, templates: ["{objects} in the snow", "{objects}"], images: 5}
  - {objects: {ball: 1}, negative: true, sure: 0.9, max_seeds: 7}
splits: {train: 0.8, val: 0.2}
"""


def plan(**fields: object) -> Plan:
    return Plan(**{"groups": (Group(objects={"cat": 1}),), "splits": {"train": 1.0}, **fields})  # type: ignore[arg-type]


def test_cells_are_all_combinations_of_counts_and_templates(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(YAML)
    read = read_plan(tmp_path / "plan.yaml")
    cells = list(read.cells())
    assert [cell.prompt for cell in cells] == [
        "one apple and three cats in the snow",
        "two apples and three cats in the snow",
        "one apple and three cats",
        "two apples and three cats",
        "a photo of one ball",
    ]
    assert read.classes == ("apple", "cat")
    assert [(cell.group.images, cell.group.sure, cell.group.max_seeds) for cell in cells[3:]] == [
        (5, 0.95, 100),
        (1, 0.9, 7),
    ]
    assert [cell.first_image for cell in cells] == [0, 5, 10, 15, 20]


def test_every_cell_is_divided_among_the_splits() -> None:
    group = Group(objects={"cat": "1-10"}, images=10)
    splits = plan(groups=(group,), splits={"train": 0.7, "val": 0.2, "test": 0.1}).split_of_images()
    for cell in range(10):
        assert Counter(splits[10 * cell : 10 * cell + 10]) == {"train": 7, "val": 2, "test": 1}
    single = plan(groups=(Group(objects={"cat": "1-10"}),), splits={"train": 0.8, "val": 0.2}).split_of_images()
    assert Counter(single) == {"train": 8, "val": 2}


def test_no_two_attempts_share_a_seed() -> None:
    small = plan(groups=(Group(objects={"cat": "1-3"}, images=4, max_seeds=5),), seed=9)
    last = small.next_seed
    attempts = 3 * 4 * 5
    drawn = [small.seed_of(n) + k * SEED_STRIDE for n in range(attempts) for k in range(5)]
    assert len({*drawn}) == len(drawn)
    assert min(drawn) == 9
    assert max(drawn) < last
    # Beyond one stride the next block begins behind the seeds of the first one.
    assert small.seed_of(SEED_STRIDE) == 9 + 5 * SEED_STRIDE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("groups: [{objects: {cat: 0}}]", "a count is a number from 1 to 100"),
        ("groups: [{objects: {cat: 300}}]", "a count is a number from 1 to 100"),
        ("groups: [{objects: {cat: 5-2}}]", "a count is a number from 1 to 100"),
        ("groups: [{objects: {cat: 1}, templates: [a cat]}]", "must hold {objects} once"),
        ("groups: [{objects: {cat: 1}, colour: red}]", "colour"),
        ("groups: [{objects: {cat: 1}, negative: true}]", "all groups are negative"),
        ("groups: []", "length >= 1"),
        ("groups: [{objects: {cat: 1}}]\nseed: 4294967295", "seeds above 2\\*\\*32"),
        ("groups: [{objects: {cat: 1}, images: 1000000}, {objects: {cat: 2}}]", "at most 1000000"),
        ("groups: [{objects: {cat: 1}}, &a {objects: {dog: 1}}, *a]", "alias"),
        ("groups: {", "is not a plan"),
    ],
)
def test_a_bad_plan_is_one_line_that_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "plan.yaml").write_text(text + "\nsplits: {train: 1.0}\n")
    with pytest.raises(ValueError, match=message) as raised:
        read_plan(tmp_path / "plan.yaml")
    assert "\n" not in str(raised.value)


def test_splits_sum_to_one() -> None:
    with pytest.raises(ValueError, match="fractions that sum to 1"):
        plan(splits={"train": 0.8, "val": 0.1})
