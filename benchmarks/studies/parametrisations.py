"""What gradients should move, from committed records: `python -m benchmarks.studies.parametrisations`.

The latents themselves against D2D's latent modifier network (LMN), ReNO's prior against D2D's sharpened one (its
density to the power 10), Adam against SGD with Nesterov's momentum: one seed an image, at most 40 evaluations. The
learning rate of each arm is the best of its list on the tuning seeds; the tables come from the reporting seeds.
`python -m benchmarks.studies.tuning parametrisation` compares the same on the tuning seeds anew.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.evaluation.statistics import duel, holm, rate
from benchmarks.studies.markdown import paired, table

RECORDS = Path(__file__).parents[1] / "results" / "parametrisations.jsonl.gz"
PAIRS = (
    ("lmn, adam, ReNO prior", "latents, adam, ReNO prior"),
    ("lmn, adam, sharpened prior", "latents, adam, ReNO prior"),
    ("latents, adam, sharpened prior", "latents, adam, ReNO prior"),
    ("lmn, adam, sharpened prior", "lmn, adam, ReNO prior"),
    ("latents, sgd, ReNO prior", "latents, adam, ReNO prior"),
    ("lmn, sgd, ReNO prior", "lmn, adam, ReNO prior"),
)
"""Arms that are compared on the same cases."""

Record = dict[str, Any]
"""`way` is the arm; `distance` is how far its latents moved, in standard deviations a component."""


def read() -> list[Record]:
    """Return all records, one for each arm, learning rate and case."""
    with gzip.open(RECORDS, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def chosen_rate(records: Sequence[Record], arm: str) -> float:
    """Return the rate with most right images on the tuning seeds; of equal ones that with fewest evaluations."""
    rates = sorted({r["learning_rate"] for r in records if r["way"] == arm and r["purpose"] == "tuning"})
    return max(rates, key=lambda rate: _merit(records, arm, rate))


def chosen_arm(records: Sequence[Record], among: Sequence[str]) -> str:
    """Return the arm with most right images on the tuning seeds, each at its chosen rate; of equals the cheapest."""
    return max(among, key=lambda arm: _merit(records, arm, chosen_rate(records, arm)))


def _merit(records: Sequence[Record], arm: str, rate: float) -> tuple[int, int]:
    asked = ("tuning", arm, rate)
    tried = [record for record in records if (record["purpose"], record["way"], record["learning_rate"]) == asked]
    return sum(record["right"] for record in tried), -sum(record["evaluations"] for record in tried)


def report(records: Sequence[Record]) -> str:
    """Return Markdown of the reporting seeds: a row for each arm, then the paired comparisons."""
    reported: dict[str, list[Record]] = {}
    for record in records:
        if record["purpose"] == "reporting":
            reported.setdefault(record["way"], []).append(record)
    rows = [
        [
            arm,
            f"{mine[0]['learning_rate']:g}",
            str(len(mine)),
            rate([record["right"] for record in mine]),
            rate([record["right"] for record in mine if record["target_count"] > 5]),
            rate([record["confirmed"] for record in mine]),
            f"{statistics.mean(record['evaluations'] for record in mine):.1f}",
            f"{statistics.mean(record['distance'] for record in mine):.2f}",
        ]
        for arm, mine in reported.items()
    ]
    head = ["arm", "rate", "n", "right by the judge %", "counts 6-10", "confirmed %", "evaluations", "moved"]
    duels = []
    for pair in PAIRS:
        first, second = ({(r["prompt"], r["seed"]): r["right"] for r in reported.get(arm, ())} for arm in pair)
        cases = [case for case in first if case in second]
        duels.append(duel([first[case] for case in cases], [second[case] for case in cases]))
    compared = [
        f"- {paired(*pair, found)}, after Holm's correction {corrected:.2g}"
        for pair, found, corrected in zip(PAIRS, duels, holm([found.p_value for found in duels]), strict=True)
    ]
    return "\n".join([table(head, rows), "", *compared])


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.parametrisations", description=__doc__)
    parser.parse_args(arguments)
    print(report(read()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
