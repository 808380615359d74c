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

OPTIONS = (
    "--seed --images --count --until --max-seconds --max-steps --max-evaluations --size --num-inference-steps --method "
    "--token --judge --critic --device --memory --json --quiet --draft --limit --seeds --shard --threads --workers "
    "--engine --baseline --images --labeller --number --tolerance --object --loss --learning-rate "
    "--num-vectors --patience --export --cases --against --"
).split()


def answered(*arguments: str) -> None:
    """Run the command in this process, and check its exit code and what a terminal would show."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    assert code in (0, 1, 2)
    # Loading, and what is missing or incomplete, is reported and no error.
    reported = ("loading ", "... ")
    lines = [line for line in err.getvalue().splitlines() if not line.startswith(reported)]
    errors = [line for line in lines if " missing or incomplete: " not in line]
    if code == 2:
        assert len(errors) == 1
        assert errors[0].startswith("countgen")
    assert all(line.isprintable() for text in (out, err) for line in text.getvalue().split("\n"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of two records."""
    folder, image = tmp_path_factory.mktemp("hostile"), Image.new("RGB", (8, 8))
    with RunFolder(folder / "run", settings(1)) as run:
        run.keep(Outcome(DONE, image, image, {}, 0))
    return folder


@given(TEXTS)
def test_a_prompt_names_objects_with_letters_or_is_an_error(prompt: str) -> None:
    with contextlib.suppress(ValueError):
        assert all(any(map(str.isalpha, target.object_name)) for target in parse(prompt))


@given(
    st.lists(st.one_of(st.sampled_from(OPTIONS), TEXTS, st.integers(1, 5000).map("9".__mul__)), max_size=5), st.data()
)
def test_arguments(folder: Path, extra: list[str], data: st.DataObject) -> None:
    out = ["--out", str(folder / "out")]
    words = st.lists(TEXTS, min_size=1, max_size=2)
    command: list[str] = data.draw(
        st.one_of(
            words.map(lambda texts: ["generate", texts[0], "--model", "none", *out]),
            words.map(lambda texts: ["generate", "--count", f"{texts[0]}={texts[-1]}", "--model", "none", *out]),
            words.map(lambda texts: ["tokens", "learn", texts[0], "--object", texts[-1], "--model", "none", *out]),
            words.map(lambda texts: ["eval", "--suite", texts[0], "--model", "none", *out]),
            words.map(lambda texts: ["eval", "--images", texts[0], *out]),
            words.map(lambda texts: ["tokens", "--model", *texts]),
            st.tuples(st.sampled_from(("report", "label", "reproduce", "")), words).map(
                lambda drawn: [*filter(None, drawn[:1]), *drawn[1]]
            ),
        )
    )
    answered(*command, *extra)


RECORDS = [json.loads(record.to_line()) for record in (DONE, FAILED)]
LABEL = {"schema": 1, "key": DONE.key, "labeller": "anna", "counts": [6, 2]}
JUDGED = json.loads(Judgement(DONE.key, "vlm", (6, 2), 0.5, ((1, 2, 3, 4),)).to_line())


def lines_of(documents: list[Any]) -> bytes:
    return b"".join(json.dumps(document).encode() + b"\n" for document in documents)


@given(
    st.one_of(damaged_json(RECORDS).map(lines_of), damaged_bytes(lines_of(RECORDS))),
    damaged_text(LABEL) | st.just(b""),
    damaged_text(JUDGED) | st.just(b""),
    st.none() | damaged_text({"suite": "a", "methods": ["auto"], "max_evaluations": 9}),
    st.sampled_from(("report RUN", "report RUN --json --parquet OUT/a.parquet", "label RUN", "label RUN --json"))
    | st.sampled_from(("report RUN --out OUT/page.html --images 2", "report RUN --baseline auto")),
)
def test_a_run_folder(
    folder: Path, records: bytes, labels: bytes, judgements: bytes, run_settings: bytes | None, command: str
) -> None:
    run = folder / "run"
    honest = (run / "settings.json").read_bytes()
    files = {"records.jsonl": records, "labels.jsonl": labels, "judgements.jsonl": judgements}
    for name, content in (files | {"settings.json": honest if run_settings is None else run_settings}).items():
        (run / name).write_bytes(content)
    try:
        answered(*(word.replace("RUN", str(run)).replace("OUT", str(folder)) for word in command.split()))
    finally:
        (run / "settings.json").write_bytes(honest)


@st.composite
def suites(draw: Callable) -> bytes:
    row = {"prompt": draw(TEXTS), "targets": draw(st.sampled_from((None, {"apple": 7})) | ODD_VALUES)}
    row[draw(st.sampled_from("tags include int_number seed x".split()))] = draw(ODD_VALUES)
    return bytes(draw(damaged_text([row]) | damaged_text(row)))


@given(suites(), st.sampled_from((".jsonl", ".json", ".csv", ".txt")))
def test_a_suite(folder: Path, content: bytes, suffix: str) -> None:
    path = folder / f"suite{suffix}"
    path.write_bytes(content)
    answered("eval", "--suite", str(path), "--out", str(folder / "out"), "--model", "none")
