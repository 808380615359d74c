"""Choose the settings of the method `edit`: one seed, counts 4 to 12, each image judged before and after.

Example:
    python -m benchmarks.studies.edit_settings --arm "frequency_cutoff=4" --arm "learning_rate=0.08" --out arms.jsonl
    python -m benchmarks.studies.edit_settings --report benchmarks/results/edit_settings.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

import countgen
from benchmarks.evaluation.metrics import CHANGED, KEPT
from benchmarks.evaluation.statistics import wilson_interval
from countgen.methods.edit import EditSettings
from countgen.methods.settings import with_text
from countgen.miniature.world import NUMBER_WORDS, OBJECT_NAMES, PLURALS

FIRST_SEEDS = {"tuning": 41_000_000, "report": 57_000_000}
COUNTS = range(4, 13)
MAX_EVALUATIONS = 60


def cases(seeds: str, for_each_count: int) -> Iterator[tuple[str, int]]:
    """Yield prompts and seeds; object classes take turns."""
    for number in range(len(COUNTS) * for_each_count):
        count, turn = COUNTS[number % len(COUNTS)], number // len(COUNTS)
        name = (7 * number + 3 * turn) % len(OBJECT_NAMES)
        yield f"a photo of {NUMBER_WORDS[count]} {PLURALS[name]}", FIRST_SEEDS[seeds] + number


def record(result: countgen.Result) -> dict[str, Any]:
    """Return what is measured of one result."""
    kept, change = result.objects_kept, result.background_change
    assert kept is not None
    assert change is not None
    return {
        "count": result.targets[0].target_count,
        "seed": result.seed,
        "right": result.verified,
        "confirmed": result.confirmed,
        "objects_kept": round(kept, 4),
        "background_change": round(change, 5),
        "structural_similarity": round(result.structural_similarity or 0.0, 4),
        "kept_and_right": result.verified and kept >= KEPT and change <= CHANGED,
        "evaluations": result.evaluations,
        "phase": result.phase,
    }


def summary(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean of every measure, fractions of cases with their 95 % interval."""
    n = len(records)
    found: dict[str, Any] = {"n": n, "left_alone": sum(one["left_alone"] for one in records)}
    for name in ("right", "confirmed", "kept_and_right"):
        hits = sum(one[name] for one in records)
        found[name] = {"share": round(hits / n, 4), "interval": [round(bound, 4) for bound in wilson_interval(hits, n)]}
    for name in ("objects_kept", "background_change", "structural_similarity", "evaluations"):
        found[name] = round(sum(one[name] for one in records) / n, 4)
    return found | {"most_evaluations": max(one["evaluations"] for one in records)}


def report(records: Sequence[dict[str, Any]]) -> None:
    """Print the summary of every arm."""
    arms: dict[str, list[dict[str, Any]]] = {}
    for one in records:
        arms.setdefault(one["arm"], []).append(one)
    for arm, found in arms.items():
        print(json.dumps({"arm": arm or "defaults"} | summary(found)))


def originals(models: countgen.Models, chosen: Iterable[tuple[str, int]]) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Yield cases with the record of their own image, and whether an edit leaves it alone."""
    for prompt, seed in chosen:
        run = countgen.Run(prompt, models, method="plain", seed=seed)
        (step,) = run
        yield prompt, seed, record(run.result()) | {"left_alone": step.margin > 0}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run arms case by case, so that they can be compared at any time, and print their means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", choices=tuple(FIRST_SEEDS), default="tuning")
    parser.add_argument("--for-each-count", type=int, default=6)
    parser.add_argument("--skip", type=int, default=0, help="cases at the beginning that another process takes")
    parser.add_argument("--backbone", default="miniature")
    parser.add_argument("--arm", action="append", default=[], help="settings of edit, separated by spaces")
    parser.add_argument("--out", type=Path, help="JSON lines, appended")
    parser.add_argument("--report", type=Path, help="print the summary of a file of records, and run nothing")
    options = parser.parse_args(arguments)
    if options.report:
        report(json.loads(options.report.read_text("utf-8")))
        return
    torch.set_num_threads(1)
    models = countgen.load(options.backbone, device="cpu")
    arms = {arm: with_text(EditSettings(), arm.split()) for arm in options.arm or [""]}
    records: list[dict[str, Any]] = []

    def keep(arm: str, one: dict[str, Any]) -> None:
        records.append({"backbone": options.backbone, "seeds": options.seeds, "arm": arm} | one)
        if options.out:
            with options.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(records[-1]) + "\n")

    for prompt, seed, plain in originals(models, list(cases(options.seeds, options.for_each_count))[options.skip :]):
        keep("plain", plain)
        for arm, settings in arms.items():
            if plain["left_alone"]:
                keep(arm, plain)
                continue
            result = countgen.generate(
                prompt, models, method="edit", settings=settings, seed=seed, max_evaluations=MAX_EVALUATIONS
            )
            keep(arm, record(result) | {"left_alone": False})
    report(records)


if __name__ == "__main__":
    main()
