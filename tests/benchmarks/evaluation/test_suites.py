"""Shipped suites are balanced and consistent; files are read, or an error names the line."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from countgen.benchmarks.evaluation.suites import Prompt, available, load
from countgen.miniature.world import BACKGROUNDS, OBJECT_NAMES
from countgen.prompts import Target, parse

STUDY = {"study-words", "study-beyond", "study-two-classes"}


def test_the_study_has_a_seed_for_every_prompt_that_no_other_prompt_has() -> None:
    assert sorted(STUDY) == [name for name in available() if name.startswith("study-")]
    prompts = [prompt for name in sorted(STUDY) for prompt in load(name)]
    seeds = [int(prompt.tags["seed"]) for prompt in prompts]
    assert len(set(seeds)) == len(prompts) == 600
    assert set(Counter((prompt.suite, prompt.total) for prompt in prompts).values()) == {24}


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


def test_level_follows_the_total() -> None:
    for count, level in ((1, "easy"), (5, "easy"), (6, "medium"), (10, "medium"), (15, "hard"), (16, "beyond")):
        assert Prompt("p", (Target("apple", count),), "s").level == level
    assert Prompt("p", (Target("apple", 5), Target("dog", 1)), "s").level == "medium"


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


def test_cococount_is_read_with_its_scene_and_seed(tmp_path: Path) -> None:
    entry = {
        "prompt": "A photo of seven sports balls on the grass",
        "object": "sports ball",
        "object_plural": "sports balls",
        "object_id": 32,
        "scene": "on the grass",
        "number": "seven",
        "int_number": 7,
        "seed": 786295,
    }
    path = tmp_path / "CoCoCount.json"
    path.write_text(json.dumps([entry]))
    (prompt,) = load(path)
    assert prompt.targets == (Target("sports ball", 7),)
    assert prompt.tags == {"scene": "on the grass", "seed": "786295"}
    assert prompt.suite == "CoCoCount"


def test_genevals_counting_lines_are_read_and_no_others(tmp_path: Path) -> None:
    lines = [
        {"tag": "counting", "include": [{"class": "tv remote", "count": 3}], "prompt": "a photo of three tv remotes"},
        {"tag": "colors", "include": [{"class": "bus", "count": 1, "color": "red"}], "prompt": "a photo of a red bus"},
    ]
    path = tmp_path / "evaluation_metadata.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    (prompt,) = load(path)
    assert prompt.targets == (Target("remote", 3),)
    path.write_text(json.dumps(lines[1]))
    with pytest.raises(ValueError, match="1 lines do not ask for exact counts"):
        load(path)


GENEVAL_2 = {
    "prompt": "four white bicycles in front of three plastic cows",
    "atom_count": 7,
    "vqa_list": [
        ["How many bicycles are in the image?", "four"],
        ["Are the bicycles white?", "Yes"],
        ["How many cows are in the image?", "three"],
    ],
    "skills": ["count", "attribute", "count"],
}


def test_geneval_2_has_a_target_for_each_question_for_a_number(tmp_path: Path) -> None:
    path = tmp_path / "geneval2_data.jsonl"
    other = {
        "prompt": "white milk",
        "atom_count": 2,
        "vqa_list": [["Is the milk white?", "Yes"]],
        "skills": ["attribute"],
    }
    path.write_text(f"{json.dumps(GENEVAL_2)}\n{json.dumps(other)}\n")
    (prompt,) = load(path)
    assert prompt.prompt == GENEVAL_2["prompt"]
    assert prompt.targets == (Target("bicycle", 4), Target("cow", 3))
    assert prompt.tags == {"task": "counting", "atom_count": "7"}
    for wrong in (["How many cows?", "three"], ["How many cows are in the image?", "some"], "three"):
        path.write_text(json.dumps(GENEVAL_2 | {"vqa_list": [wrong] * 3}))
        with pytest.raises(ValueError, match=r"line 1: (expected a question|vqa_list)"):
            load(path)


def test_geckonum_is_read_where_it_asks_for_whole_numbers(tmp_path: Path) -> None:
    path = tmp_path / "prompts.csv"
    path.write_text(
        "index,prompt,has_numeral,is_frequent,entities,prompt_type,dataset_id\n"
        "0,1 dog.,0,1,dog:1,numeric_simple,geckonum_00000\n"
        '762,"Four okras, 2 flies and 5 tables.",1,-1,"okra:4, fly:2, table:5",3-additive,geckonum_00762\n'
        '845,An image of a vase. Many flowers.,0,-1,"flower:many,vase:1",approx-1-entity,geckonum_00845\n'
    )
    first, second = load(path)
    assert first.targets == (Target("dog", 1),)
    assert second.targets == (Target("okra", 4), Target("fly", 2), Target("table", 5))
    assert second.tags["dataset_id"] == "geckonum_00762"


def test_plain_lists_say_the_same_in_every_format(tmp_path: Path) -> None:
    files = {
        "a.txt": "# mine\n\nseven apples\ntwo cats and a dog\n",
        "a.jsonl": '{"prompt": "seven apples"}\n{"prompt": "two cats and a dog", "targets": {"cat": 2, "dog": 1}}\n',
        "a.json": '["x"]'.replace('"x"', '{"prompt": "seven apples"}, {"prompt": "two cats and a dog"}'),
        "a.csv": 'prompt,targets\nseven apples,\ntwo cats and a dog,"cat=2,dog=1"\n,\n',
    }
    expected = [("seven apples", (Target("apple", 7),)), ("two cats and a dog", (Target("cat", 2), Target("dog", 1)))]
    for name, text in files.items():
        path = tmp_path / name
        path.write_text(text, encoding="utf-8-sig")  # as spreadsheets write it
        assert [(prompt.prompt, prompt.targets) for prompt in load(path)] == expected


def test_further_columns_of_a_csv_become_tags(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text('scene,prompt,style\n"on a table, at night",seven apples,\n')
    assert load(path)[0].tags == {"scene": "on a table, at night"}


BAD_ROWS = [
    ("a.txt", "seven apples\nsome apples\n", "a.txt, line 2: cannot read a count"),
    ("a.jsonl", '\n{"prompt": \n', "a.jsonl, line 2 is not an object"),
    ("a.jsonl", '{"text": "seven apples"}\n', "line 1: Object missing required field `prompt`"),
    ("a.jsonl", '{"prompt": "p", "targets": {"apple": "7"}}', "line 1: targets[...]: Expected `int`, got `str`"),
    ("a.jsonl", '{"prompt": "p", "targets": [7]}', "line 1: targets: Expected"),
    ("a.jsonl", '{"prompt": "p", "targets": "apple"}', "line 1: cannot read 'apple'"),
    (
        "a.jsonl",
        '{"tag": "counting", "include": [{"class": [], "count": 2}], "prompt": "p"}',
        "line 1: include[0].class: Expected",
    ),
    ("a.jsonl", '{"tag": "counting", "include": [], "prompt": "p"}', "line 1: 'p' needs one target"),
    ("a.json", '{"prompt": "two cats"}', "a.json must hold a JSON list"),
    ("a.json", '[{"prompt": "two cats"}, {"prompt": "p", "object": "cat", "int_number": 0}]', "entry 2: cat: the"),
    ("a.json", "[" * 100_000, "nested too deeply"),
    ("a.csv", "text\nseven apples\n", "a.csv, line 1: expected the columns prompt"),
    ("a.csv", "prompt\nseven apples, red\n", "a.csv, line 2: more cells than the header has"),
    ("a.csv", 'prompt\n"seven apples\n', "a.csv, line 2: unexpected end"),
    ("a.csv", "prompt,seed\ntwo cats,x\n", "a.csv, line 2: the seed must be a whole number"),
    ("a.csv", "prompt,seed\ntwo cats,4294967296\n", "a.csv, line 2: the seed must be a whole number"),
    ("a.txt", "# nothing\n", "holds no prompts"),
]


def test_a_bad_row_is_refused_with_its_place(subtests: pytest.Subtests, tmp_path: Path) -> None:
    for name, text, said in BAD_ROWS:
        with subtests.test(name=name, text=text):
            path = tmp_path / name
            path.write_text(text)
            with pytest.raises(ValueError, match=re.escape(said)):
                load(path)


@pytest.mark.parametrize("name", ["d2d-smal-style", "missing.jsonl", "../words.py", ""])
def test_an_unknown_suite_is_refused_and_the_names_are_told(name: str) -> None:
    with pytest.raises(ValueError, match="d2d-small-style"):
        load(name)
