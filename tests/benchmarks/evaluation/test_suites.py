"""Shipped suites are balanced and consistent; files are read, or an error names the line."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from countgen.benchmarks.evaluation.suites import available, load
from countgen.miniature.world import BACKGROUNDS, OBJECT_NAMES
from countgen.prompts import Target, parse

pytestmark = pytest.mark.core

STUDY = {"study-few": 120, "study-many": 240, "study-beyond": 240, "study-two-classes": 126}


def test_the_study_has_a_seed_for_every_prompt_that_no_other_prompt_has() -> None:
    assert sorted(STUDY) == [name for name in available() if name.startswith("study-")]
    prompts = [prompt for name in sorted(STUDY) for prompt in load(name)]
    assert Counter(prompt.suite for prompt in prompts) == STUDY
    assert len({prompt.tags["seed"] for prompt in prompts}) == len(prompts)


def test_every_shipped_prompt_says_what_its_targets_say(subtests: pytest.Subtests) -> None:
    for name in available():
        with subtests.test(name=name):
            prompts = load(name)
            names = {target.object_name for prompt in prompts for target in prompt.targets}
            for prompt in prompts:
                assert parse(prompt.prompt, sorted(names)) == prompt.targets
                assert prompt.suite == name
                if name.endswith("-miniature"):
                    assert {target.object_name for target in prompt.targets} <= set(OBJECT_NAMES)
                    assert prompt.tags["scene"] == "none" or f" {prompt.tags['scene']}" in BACKGROUNDS
            assert len({(prompt.prompt, prompt.tags.get("seed")) for prompt in prompts}) == len(prompts)


def test_designs_are_balanced() -> None:
    def per_count(name: str) -> set[int]:
        return set(Counter(prompt.total for prompt in load(name)).values())

    assert per_count("t2icountbench-style") == {28}
    assert per_count("t2icountbench-miniature") == {21}
    assert per_count("d2d-small-style") == per_count("d2d-small-miniature") == {40}
    assert len(load("d2d-small-style")) == len(load("d2d-small-miniature")) == 400
    assert {len(prompt.targets) for prompt in load("d2d-multi-style")} == {2, 3}
    cococount = load("cococount-style")
    assert {prompt.total for prompt in cococount} == {2, 3, 4, 5, 7, 10}
    assert set(Counter(prompt.targets[0].object_name for prompt in cococount).values()) == {10}


COCOCOUNT = {
    "prompt": "A photo of seven sports balls on the grass",
    **{"object": "sports ball", "object_plural": "sports balls", "object_id": 32, "scene": "on the grass"},
    **{"number": "seven", "int_number": 7, "seed": 786295},
}
GENEVAL = [
    {"tag": "counting", "include": [{"class": "tv remote", "count": 3}], "prompt": "a photo of three tv remotes"},
    {"tag": "colors", "include": [{"class": "bus", "count": 1, "color": "red"}], "prompt": "a photo of a red bus"},
]
GENEVAL_2 = {
    "prompt": "four white bicycles in front of three plastic cows",
    "atom_count": 7,
    "vqa_list": [
        *(["How many bicycles are in the image?", "four"], ["Are the bicycles white?", "Yes"]),
        ["How many cows are in the image?", "three"],
    ],
    "skills": ["count", "attribute", "count"],
}
NO_COUNT = {"prompt": "milk", "atom_count": 2, "vqa_list": [["Is the milk white?", "Yes"]], "skills": ["attribute"]}
GECKONUM = """index,prompt,has_numeral,is_frequent,entities,prompt_type,dataset_id
762,"Four okras, 2 flies and 5 tables.",1,-1,"okra:4, fly:2, table:5",3-additive,geckonum_00762
845,An image of a vase. Many flowers.,0,-1,"flower:many,vase:1",approx-1-entity,geckonum_00845
"""
PUBLISHED = [
    ("CoCoCount.json", json.dumps([COCOCOUNT]), {"sports ball": 7}, {"scene": "on the grass", "seed": "786295"}),
    ("evaluation_metadata.jsonl", "\n".join(map(json.dumps, GENEVAL)), {"remote": 3}, {"task": "counting"}),
    ("geneval2_data.jsonl", f"{json.dumps(GENEVAL_2)}\n{json.dumps(NO_COUNT)}", {"bicycle": 4, "cow": 3}, {}),
    ("prompts.csv", GECKONUM, {"okra": 4, "fly": 2, "table": 5}, {"dataset_id": "geckonum_00762"}),
]


@pytest.mark.parametrize(("name", "text", "targets", "tags"), PUBLISHED)
def test_of_a_published_list_the_prompts_with_exact_counts_are_read(
    name: str, text: str, targets: dict[str, int], tags: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(text)
    (prompt,) = load(path)
    assert {target.object_name: target.target_count for target in prompt.targets} == targets
    assert tags.items() <= prompt.tags.items()
    assert prompt.suite == path.stem


def test_plain_lists_say_the_same_in_every_format(tmp_path: Path) -> None:
    files = {
        "a.txt": "# mine\n\nseven apples\ntwo cats and a dog\n",
        "a.jsonl": '{"prompt": "seven apples"}\n{"prompt": "two cats and a dog", "targets": {"cat": 2, "dog": 1}}\n',
        "a.json": '[{"prompt": "seven apples"}, {"prompt": "two cats and a dog"}]',
        "a.csv": 'prompt,targets\nseven apples,\ntwo cats and a dog,"cat=2,dog=1"\n,\n',
    }
    expected = [("seven apples", (Target("apple", 7),)), ("two cats and a dog", (Target("cat", 2), Target("dog", 1)))]
    for name, text in files.items():
        path = tmp_path / name
        path.write_text(text, encoding="utf-8-sig")  # as spreadsheets write it
        assert [(prompt.prompt, prompt.targets) for prompt in load(path)] == expected


@pytest.mark.parametrize(
    ("name", "text", "helps"),
    [
        ("a.txt", "seven apples\nsome apples\n", "a.txt, line 2: cannot read a count"),
        ("a.txt", "# nothing\n", "holds no prompts"),
        ("a.jsonl", '\n{"prompt": \n', "a.jsonl, line 2 is not an object"),
        ("a.jsonl", '{"text": "seven apples"}\n', "line 1: Object missing required field `prompt`"),
        ("a.jsonl", '{"prompt": "p", "targets": {"apple": "7"}}', "line 1: targets[...]: Expected `int`, got `str`"),
        ("a.jsonl", '{"tag": "counting", "include": [], "prompt": "p"}', "line 1: 'p' needs one target"),
        ("a.jsonl", json.dumps(GENEVAL[1]), "1 lines do not ask for exact counts"),
        ("a.jsonl", json.dumps(GENEVAL_2 | {"vqa_list": [["How many?", "some"]] * 3}), "line 1: expected a question"),
        ("a.json", '{"prompt": "two cats"}', "a.json must hold a JSON list"),
        ("a.json", '[{"prompt": "two cats"}, {"prompt": "p", "object": "cat", "int_number": 0}]', "entry 2: cat: the"),
        ("a.csv", "text\nseven apples\n", "a.csv, line 1: expected the columns prompt"),
        ("a.csv", "prompt,seed\ntwo cats,4294967296\n", "a.csv, line 2: the seed must be a whole number"),
    ],
)
def test_a_bad_row_is_named_with_its_place(name: str, text: str, helps: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=re.escape(helps)):
        load(tmp_path / name)


@pytest.mark.parametrize("name", ["d2d-smal-style", "../words.py"])
def test_an_unknown_suite_is_an_error_that_names_the_others(name: str) -> None:
    with pytest.raises(ValueError, match="d2d-small-style"):
        load(name)
