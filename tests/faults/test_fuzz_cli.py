"""Hostile arguments, suites and run folders are answered by a result or by one line, on a terminal that obeys nothing.

Nothing is generated: prompts are read, and the backbone they are for does not exist.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from countgen.app.cli import main
from countgen.benchmarks.evaluation.judgements import Judgement
from countgen.benchmarks.evaluation.run_folder import RunFolder
from countgen.benchmarks.evaluation.worker import Outcome
from countgen.prompts import parse
from tests.benchmarks.evaluation.test_records import DONE, FAILED
from tests.faults.crash_consistency import settings
from tests.faults.hostile import ODD_VALUES, TEXTS, damaged_bytes, damaged_json, damaged_text

COMMANDS = (
    "generate {a} --model none --out {out}",
    "generate --count {a}={b} --model none --out {out}",
    "tokens learn {a} --object {b} --model none --out {out}",
    "tokens --model {a} {b}",
    "eval --suite {a} --model none --out {out}",
    "eval --images {a} --out {out}",
    *("report {a}", "label {a}", "reproduce {a}", "{a}"),
)
OPTIONS = (
    "--seed --images --count --until --max-seconds --max-steps --max-evaluations --size --num-inference-steps --method "
    "--token --judge --critic --device --memory --json --quiet --draft --limit --seeds --shard --threads --workers "
    "--engine --baseline --images --labeller --number --tolerance --object --loss --learning-rate "
    "--num-vectors --patience --export --cases --against --"
).split()


def check(command: str, *more: str, **texts: object) -> None:
    """Run a command with texts in place of its fields, and check its exit code and what a terminal would show."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([*(word.format(**texts) for word in command.split()), *more])
    assert code in (0, 1, 2)
    # Loading, and what is missing or incomplete, is reported and no error.
    lines = [line for line in err.getvalue().splitlines() if not line.startswith(("loading ", "... "))]
    errors = [line for line in lines if " missing or incomplete: " not in line]
    if code == 2:
        assert len(errors) == 1
        assert errors[0].startswith("countgen")
    assert all(line.isprintable() for text in (out, err) for line in text.getvalue().split("\n"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of one record."""
    folder, image = tmp_path_factory.mktemp("hostile"), Image.new("RGB", (8, 8))
    with RunFolder(folder / "run", settings(1)) as run:
        run.keep(Outcome(DONE, image, image, {}, 0))
    (folder / "run" / "settings.json").rename(folder / "honest.json")
    return folder


@given(TEXTS)
def test_a_prompt_names_objects_with_letters_or_is_an_error(prompt: str) -> None:
    with contextlib.suppress(ValueError):
        assert all(any(map(str.isalpha, target.object_name)) for target in parse(prompt))


MORE = st.lists(st.one_of(st.sampled_from(OPTIONS), TEXTS, st.integers(1, 5000).map("9".__mul__)), max_size=5)


@given(st.sampled_from(COMMANDS), TEXTS, TEXTS, MORE)
def test_arguments(folder: Path, command: str, a: str, b: str, more: list[str]) -> None:
    check(command, *more, a=a, b=b, out=folder / "out")


RECORDS = [json.loads(record.to_line()) for record in (DONE, FAILED)]
LABEL = {"schema": 1, "key": DONE.key, "labeller": "anna", "counts": [6, 2]}
JUDGED = json.loads(Judgement(DONE.key, "vlm", (6, 2), 0.5, ((1, 2, 3, 4),)).to_line())


def lines_of(documents: list[Any]) -> bytes:
    return b"".join(json.dumps(document).encode() + b"\n" for document in documents)


@given(
    damaged_json(RECORDS).map(lines_of) | damaged_bytes(lines_of(RECORDS)),
    damaged_text(LABEL) | st.just(b""),
    damaged_text(JUDGED) | st.just(b""),
    st.none() | damaged_text({"suite": "a", "methods": ["auto"], "max_evaluations": 9}),
    st.sampled_from(("report {run}", "report {run} --json", "label {run}", "label {run} --json"))
    | st.sampled_from(("report {run} --out {out}.html --images 2", "report {run} --baseline auto")),
)
def test_a_run_folder(
    folder: Path, records: bytes, labels: bytes, judgements: bytes, run_settings: bytes | None, command: str
) -> None:
    files = {"records.jsonl": records, "labels.jsonl": labels, "judgements.jsonl": judgements}
    files["settings.json"] = (folder / "honest.json").read_bytes() if run_settings is None else run_settings
    for name, content in files.items():
        (folder / "run" / name).write_bytes(content)
    check(command, run=folder / "run", out=folder / "report")


@st.composite
def suites(draw: Callable) -> bytes:
    row = {"prompt": draw(TEXTS), "targets": draw(st.sampled_from((None, {"apple": 7})) | ODD_VALUES)}
    row[draw(st.sampled_from("tags include int_number seed x".split()))] = draw(ODD_VALUES)
    return bytes(draw(damaged_text([row]) | damaged_text(row)))


@given(suites(), st.sampled_from((".jsonl", ".json", ".csv", ".txt")))
def test_a_suite(folder: Path, content: bytes, suffix: str) -> None:
    (folder / f"suite{suffix}").write_bytes(content)
    check("eval --suite {suite} --out {out} --model none", suite=folder / f"suite{suffix}", out=folder / "out")
