"""Counts beyond the number words, with and without the number slider: `python -m benchmarks.studies.number_slider`.

Every case is a prompt and a fresh seed that no setting was chosen on; every arm may spend the same evaluations; an
image is right when the judge, which the calibration did not use, counts what was asked. Records are kept one by one in
a JSON file, and the same command goes on; `--table` only prints the table of what is there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import countgen
from benchmarks.evaluation.statistics import wilson_interval
from countgen.atomic_write import write_atomically
from countgen.miniature.world import OBJECT_NAMES
from countgen.prompts.number_words import number_word
from countgen.prompts.plurals import counted

RECORDS = Path(__file__).parents[1] / "results" / "number_slider.json"
FIRST_SEED = 23_000_000
ARMS: dict[str, dict[str, Any]] = {
    "search, as written": {"method": "search", "number_offset": 0},
    "auto, as written": {"method": "auto", "number_offset": 0},
    "search": {"method": "search"},
    "auto": {"method": "auto"},
    "search, +1": {"method": "search", "number_offset": 1},
}
"""The last adds an object to each class: for two classes, whose numbers are words that the model knows."""


def cases(classes: int, totals: list[int], each: int) -> Iterator[tuple[int, int, str]]:
    """Yield total, seed and prompt of every case, the first of each total before the second."""
    for k in range(each):
        for total in totals:
            seed = FIRST_SEED + 1_000_000 * classes + 1000 * total + k
            rng = np.random.default_rng(seed)
            names = [OBJECT_NAMES[one] for one in rng.choice(len(OBJECT_NAMES), classes, replace=False)]
            first = total if classes == 1 else int(rng.integers(total - 12, 13))
            numbers = (first, total - first)
            said = [f"{number_word(n)} {counted(name, n)}" for n, name in zip(numbers, names, strict=False)]
            yield total, seed, f"a photo of {' and '.join(said)}"


def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Run the cases that have no record yet; return all records."""
    records: list[dict[str, Any]] = json.loads(options.out.read_text()) if options.out.exists() else []
    if options.table:
        return records
    models = countgen.load(options.backbone)
    done = {(record["backbone"], record["arm"], record["seed"], record["budget"]) for record in records}
    for total, seed, prompt in cases(options.classes, options.totals, options.each):
        for arm in options.arm or ("search", "auto"):
            if (options.backbone, arm, seed, options.evaluations) in done:
                continue
            result = countgen.generate(prompt, models, seed=seed, max_evaluations=options.evaluations, **ARMS[arm])
            wanted = [target.target_count for target in result.targets]
            record = {
                "backbone": options.backbone,
                "arm": arm,
                "classes": options.classes,
                "total": total,
                "seed": seed,
                "budget": options.evaluations,
                "prompt": prompt,
                "wanted": wanted,
                "judge_counts": result.judge_counts,
                "counts": result.counts,
                "confirmed": result.confirmed,
                "right": result.verified,
                "evaluations": result.evaluations,
                "shifts": [[s["number"], s["offset"]] for s in result.recipe.get("number_shifts", ())],
            }
            records.append(record)
            lines = ",\n".join(json.dumps(one) for one in records)
            write_atomically(f"[\n{lines}\n]\n".encode(), options.out)
            print(arm, prompt, record["judge_counts"], record["evaluations"], flush=True)
    return records


def table(records: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of a Markdown table: images that the judge counts right, by model, arm and total."""
    yield "| model | classes | arm | total | right | 95 % interval | mean error | evaluations |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for record in records:
        for total in (record["total"], "all"):
            key = (record["backbone"], record["classes"], record["arm"], total)
            groups.setdefault(key, []).append(record)
    for (backbone, classes, arm, total), group in sorted(groups.items(), key=lambda item: tuple(map(str, item[0]))):
        right, number = sum(one["right"] for one in group), len(group)
        low, high = wilson_interval(right, number)
        errors = [abs(sum(one["judge_counts"]) - sum(one["wanted"])) for one in group]
        spent = sum(one["evaluations"] for one in group) / number
        yield (
            f"| {backbone} | {classes} | {arm} | {total} | {right} of {number} ({100 * right / number:.0f} %) | "
            f"{100 * low:.0f}-{100 * high:.0f} % | {sum(errors) / number:.2f} | {spent:.0f} |"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is left and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="miniature")
    parser.add_argument("--classes", type=int, choices=(1, 2), default=1, help="object classes of a prompt")
    parser.add_argument("--totals", type=int, nargs="+", default=[13, 14, 15, 16], help="objects, of all classes")
    parser.add_argument("--each", type=int, default=8, help="cases of each total")
    parser.add_argument("--arm", action="append", choices=tuple(ARMS), help="repeatable (search and auto)")
    parser.add_argument("--evaluations", type=int, default=60)
    parser.add_argument("--out", type=Path, default=RECORDS)
    parser.add_argument("--table", action="store_true", help="print the table of what is there")
    torch.set_num_threads(1)
    print("\n".join(table(run(parser.parse_args(arguments)))))


if __name__ == "__main__":
    main()
