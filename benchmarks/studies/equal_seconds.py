"""Accuracy by count at equal seconds an image, from committed records: `python -m benchmarks.studies.equal_seconds`.

Every method had the same prompts and seeds and 1.5 s of one CPU core an image. The judge, of another architecture, was
asked once, at the end. `countgen eval --max-seconds 1.5` runs such a comparison anew.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.evaluation.statistics import duel, rate
from benchmarks.studies.markdown import paired, table

RESULTS = Path(__file__).parents[1] / "results"
FILES = ("counting-1-10", "counting-11-15", "two-kinds-2-6", "two-kinds-7-10")
GROUPS = (
    ("1-5", 1, 1, 5),
    ("6-10", 1, 6, 10),
    ("11-12", 1, 11, 12),
    ("13-15", 1, 13, 15),
    ("two object classes, 2-10 in all", 2, 2, 10),
)
"""Name, object classes in the prompt, and the least and most objects."""
COST_GROUPS = (("1-10", 1, 1, 10), ("11-15", 1, 11, 15), GROUPS[-1])

Record = dict[str, Any]


def read() -> list[Record]:
    """Return all records, one for each method and case."""
    records = []
    for name in FILES:
        with gzip.open(RESULTS / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
            records += [json.loads(line) for line in file]
    return records


def of_group(records: Sequence[Record], classes: int, low: int, high: int) -> dict[str, list[Record]]:
    """Return the records of prompts with so many object classes and objects, by method."""
    found: dict[str, list[Record]] = {}
    for record in records:
        if record["kinds"] == classes and low <= record["total"] <= high:
            found.setdefault(record["method"], []).append(record)
    return found


def accuracy(records: Sequence[Record]) -> str:
    """Return Markdown: right by the judge in %, a row for each group of counts, a column for each method."""
    methods = list(dict.fromkeys(record["method"] for record in records))
    rows = []
    for name, *group in GROUPS:
        found = of_group(records, *group)
        if found:
            cells = [rate([record["right"] for record in found.get(method, ())]) for method in methods]
            rows.append([name, str(len(next(iter(found.values())))), *cells])
    return table(["objects", "n", *methods], rows)


def costs(found: dict[str, list[Record]]) -> str:
    """Return Markdown: what each method spent, and how often an image that its critics confirmed is wrong."""
    rows = []
    for method, mine in found.items():
        confirmed = [record for record in mine if record["confirmed"]]
        seconds = [record["seconds"] for record in mine]
        rows.append(
            [
                method,
                *(f"{average(seconds):.2f}" for average in (statistics.mean, statistics.median)),
                f"{statistics.mean(record['evaluations'] for record in mine):.1f}",
                f"{len(confirmed)} of {len(mine)}",
                rate([not record["right"] for record in confirmed]),
            ]
        )
    return table(["method", "s/image", "median s", "evaluations", "confirmed", "of these wrong %"], rows)


def comparison(found: dict[str, list[Record]], method: str, baseline: str) -> str:
    """Return the exact McNemar test of two methods on the same cases, in words."""
    right = [{(r["prompt"], r["seed"]): r["right"] for r in found[name]} for name in (method, baseline)]
    return paired(method, baseline, duel(list(right[0].values()), [right[1][case] for case in right[0]]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print every table and comparison."""
    argparse.ArgumentParser(prog="python -m benchmarks.studies.equal_seconds", description=__doc__).parse_args(
        arguments
    )
    records = read()
    print(accuracy(records))
    for name, *group in COST_GROUPS:
        found = of_group(records, *group)
        print(f"\n{name}:\n\n{costs(found)}\n")
        for baseline in ("search", "noise"):
            if baseline in found:
                print(f"- {comparison(found, 'auto', baseline)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
