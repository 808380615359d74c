"""Give the command hostile arguments and run folders, and see that each is answered by one line or a result.

`python -m tests.faults.fuzz_cli --tries 500 --seed 0` prints the number of tries and every failure: an exception that
reaches the top, an exit code that none promises, more than one line of error, or a line that a terminal obeys.
Nothing is generated: a prompt is read, and the backbone it is for does not exist.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import random
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from countgen.app.cli import main as countgen
from countgen.benchmarks.evaluation.run_folder import RunFolder
from countgen.benchmarks.evaluation.worker import Outcome
from countgen.prompts import parse
from tests.app.conftest import errors_in
from tests.benchmarks.evaluation.test_records import DONE, FAILED
from tests.faults.crash_consistency import settings

ALLOWED_CODES = (0, 1, 2)
_WORDS = (
    "a an the one two seven twelve dozen half baker's couple pair score hundred thousand million no zero and or of "
    "with without on not about over minus plus times point squared percent than more apple apples cat cats red 3d "
    "4k photo another twice sheep scissors - – — ~ / ( ) , ; : . ! ? & + % $ # < > ≥ √ ± × ½ ² ⑦ Ⅶ ٣ ７ 1e3 2x4 3.5 -3 "
    "1,000 7th 0x7 007 99999999999999999999 <count-7> <count-0> ' ’ \" ` * _ | \\ { } [ ] "
    "🍎 \u202e \u200b \udcff \x00 \x1b[2J \n \ufeff"
).split(" ")
_VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2**53,
        2**63,
        2**64 - 1,
        10**25,
        10**400,
        0.5,
        -0.0,
        1e308,
        float("nan"),
        float("inf"),
    ),
    *(
        "",
        "7",
        "apple",
        "done",
        "failed",
        "\x1b]0;owned\x07",
        "\ud800",
        "\u202e",
        "../../etc/passwd",
        "/etc/passwd",
        "$x_{",
    ),
    *("<script>", "x" * 5000, [], {}, [[]], [7], ["a"], [[1, 2, 3, 4]], [[1, 2.0, True]], {"apple": 7}, {"": 1}),
    *({"miniature-fcos": [6, 2]}, {"a": [[1, 2, 3, 4]]}, {"apple": -1}, {"a": float("inf")}, {"a\nb": 1}),
)
_OPTIONS = (
    "--seed --images --count --until --max-seconds --max-steps --max-evaluations --size --num-inference-steps --method "
    "--token --judge --critic --device --memory --json --quiet --draft --limit --seeds --shard --threads --workers "
    "--engine --baseline --images --labeller --number --tolerance --object --loss --learning-rate "
    "--num-vectors --patience --export --cases --against --"
).split()


def words(rng: random.Random) -> str:
    """A text of words, numbers and signs that mean something, in an order that seldom does."""
    separator = rng.choice((" ", " ", " ", ""))
    text = separator.join(rng.choice(_WORDS) for _ in range(rng.randint(0, 8)))
    return text * rng.choice((1, 1, 1, 1, 200))


def prompt_alone(rng: random.Random, folder: Path) -> list[str]:
    """A prompt, or a count, for a backbone that does not exist: it is read, and nothing is loaded."""
    count = ["--count", f"{words(rng)}={rng.choice(_WORDS)}"] if rng.random() < 0.3 else []
    return ["generate", *count, "--model", "none", "--out", str(folder / "out"), "--", words(rng)]


def any_arguments(rng: random.Random, folder: Path) -> list[str]:
    """Options with odd values for a command that cannot get as far as a model."""
    base = rng.choice(
        (
            ["generate", words(rng), "--model", "none"],
            ["tokens", "learn", rng.choice(_WORDS), "--object", words(rng), "--model", "none"],
            ["eval", "--suite", words(rng), "--out", str(folder / "out"), "--model", "none"],
            ["report", words(rng)],
            ["report", words(rng), words(rng)],
            ["eval", "--images", words(rng), "--out", str(folder / "out")],
            ["label", words(rng)],
            ["reproduce", words(rng)],
            ["tokens", "--model", words(rng)],
            [words(rng)],
        )
    )
    extra = []
    for _ in range(rng.randint(0, 3)):
        extra += [rng.choice(_OPTIONS), rng.choice((words(rng), rng.choice(_WORDS), "9" * rng.randint(1, 5000)))]
    out = ["--out", str(folder / "out")] if base[0] == "generate" or "learn" in base else []
    return [*base, *extra, *out]


def run_folder(rng: random.Random, folder: Path) -> list[str]:
    """A report on a run, or its labels, of which files were changed."""
    run = folder / "run"
    records = [document(DONE), document(FAILED)]
    said = json.loads((run / "settings.json").read_text()) if (run / "settings.json").exists() else {}
    labels: list[Any] = [{"schema": 1, "key": DONE.key, "labeller": "anna", "counts": [6, 2]}]
    for _ in range(rng.randint(1, 3)):
        changed = rng.choice((records[0], records[0], records[1], said, labels[0]))
        key = rng.choice((*changed, rng.choice(_WORDS)))
        if isinstance(changed.get(key), dict) and rng.random() < 0.4:
            changed[key][rng.choice(("a", "apple", *changed[key]))] = rng.choice(_VALUES)
        elif isinstance(changed.get(key), list) and changed[key] and rng.random() < 0.4:
            changed[key][rng.randrange(len(changed[key]))] = rng.choice(_VALUES)
        else:
            changed[key] = copy.deepcopy(rng.choice(_VALUES))
    files = {
        "records.jsonl": "".join(json.dumps(one) + "\n" for one in records),
        "settings.json": json.dumps(said),
        "labels.jsonl": "".join(json.dumps(one) + "\n" for one in labels) if rng.random() < 0.5 else "",
    }
    for name, content in files.items():
        (run / name).write_bytes(damaged(rng, content.encode()) if rng.random() < 0.15 else content.encode())
    page = ["--out", str(folder / "page.html"), "--images", "2"] if rng.random() < 0.1 else []
    return rng.choice(
        (
            ["report", str(run), *page],
            ["report", str(run), "--json", "--parquet", str(folder / "a.parquet")],
            ["report", str(run), "--baseline", words(rng)],
            ["label", str(run), *rng.choice(([], ["--json"]))],
        )
    )


def suite_file(rng: random.Random, folder: Path) -> list[str]:
    """An evaluation of a suite that is odd, with a backbone that does not exist."""
    row: Any = {"prompt": words(rng), "targets": rng.choice((None, {"apple": 7}, rng.choice(_VALUES)))}
    row[rng.choice(("tags", "include", "int_number", "seed", "x"))] = rng.choice(_VALUES)
    suffix = rng.choice((".jsonl", ".json", ".csv", ".txt"))
    content = json.dumps([row] if suffix == ".json" else rng.choice((row, rng.choice(_VALUES))))
    path = folder / f"suite{suffix}"
    path.write_bytes(damaged(rng, content.encode()))
    return ["eval", "--suite", str(path), "--out", str(folder / "out"), "--model", "none"]


def damaged(rng: random.Random, content: bytes) -> bytes:
    """A file cut short, with bytes changed, or nested without end."""
    if rng.random() < 0.1:
        return content[: rng.randrange(len(content) + 1)] + b"[" * 100_000
    changed = bytearray(content or b"{")
    for _ in range(rng.randint(0, 3)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed[: rng.choice((len(changed), rng.randrange(len(changed) + 1)))])


def document(record: Any) -> dict[str, Any]:
    """A record as its line of JSON has it."""
    read: dict[str, Any] = json.loads(record.to_line())
    return read


KINDS: tuple[Callable[[random.Random, Path], list[str]], ...] = (
    prompt_alone,
    prompt_alone,
    any_arguments,
    run_folder,
    run_folder,
    suite_file,
)


def attempt(arguments: list[str]) -> str | None:
    """Run the command in this process; returns what is wrong with its answer, None where nothing is."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = countgen(arguments)
    except BaseException:
        return traceback.format_exc()
    said = err.getvalue()
    if code not in ALLOWED_CODES:
        return f"exit code {code}"
    errors = [line for line in errors_in(said) if " missing or incomplete: " not in line]  # that is told, no error
    if code == 2 and (len(errors) != 1 or not errors[0].startswith("countgen")):
        return f"not one line of error: {said!r}"
    if not all(line.isprintable() for text in (out.getvalue(), said) for line in text.split("\n")):
        return f"a terminal obeys this: {out.getvalue()!r} {said!r}"
    return None


def misread(prompt: str) -> str | None:
    """What is wrong with the targets that are read from a prompt, None where nothing is."""
    try:
        targets = parse(prompt)
    except ValueError:
        return None
    wrong = [target for target in targets if not any(map(str.isalpha, target.object_name))]
    return f"an object without a letter: {wrong}" if wrong else None


def fuzz(tries: int, seed: int) -> Iterator[tuple[list[str], str]]:
    """The arguments and the fault of every try that failed; the same seed makes the same tries."""
    rng = random.Random(seed)
    image = Image.new("RGB", (8, 8))
    for _ in range(tries):
        kind = rng.choice(KINDS)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            if kind is run_folder:
                with RunFolder(folder / "run", settings(1)) as run:
                    run.keep(Outcome(DONE, image, image, {}, 0))
            arguments = kind(rng, folder)
            fault = attempt(arguments) or (misread(arguments[-1]) if kind is prompt_alone else None)
            if fault:
                yield arguments, fault


def main() -> int:
    """Command line; 1 if a try failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fuzz_cli", description=__doc__)
    parser.add_argument("--tries", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    failures = 0
    for arguments, fault in fuzz(options.tries, options.seed):
        failures += 1
        print(f"{[one[:200] for one in arguments]!r}: {fault[-1500:]}", file=sys.stderr)
    print(f"{options.tries} tries with seed {options.seed}: {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
