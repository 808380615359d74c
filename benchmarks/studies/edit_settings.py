"""Choose the settings of the method `edit`: one seed, counts 4 to 12, each image judged before and after.

Example:
    python -m benchmarks.studies.edit_settings --arm "frequency_cutoff=4" --arm "learning_rate=0.05" --out arms.jsonl
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import countgen
from countgen.methods.edit import EditSettings
from countgen.methods.settings import with_text
from countgen.miniature.world import NUMBER_WORDS, OBJECT_NAMES, PLURALS

FIRST_SEEDS = {"tuning": 41_000_000, "report": 57_000_000}
COUNTS = range(4, 13)
MAX_EVALUATIONS = 60
KEPT, CHANGED = 0.8, 0.1
"""Objects kept at least, and background changed at most, of an edit that counts as one."""


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


def summary(records: list[dict[str, Any]]) -> dict[str, float]:
    """Return the mean of every measure."""
    names = [name for name, value in records[0].items() if name not in ("count", "seed", "phase")]
    return {"n": len(records)} | {
        name: round(sum(float(one[name]) for one in records) / len(records), 4) for name in names
    }


def unresolved(models: countgen.Models, seeds: str, for_each_count: int) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Yield the cases whose own image is not right on every view, with that image's record."""
    for prompt, seed in cases(seeds, for_each_count):
        run = countgen.Run(prompt, models, method="plain", seed=seed)
        (step,) = run
        yield prompt, seed, record(run.result()) | {"left_alone": step.margin > 0}


def main() -> None:
    """Run arms case by case, so that they can be compared at any time, and print their means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", choices=tuple(FIRST_SEEDS), default="tuning")
    parser.add_argument("--for-each-count", type=int, default=5)
    parser.add_argument("--backbone", default="miniature")
    parser.add_argument("--arm", action="append", default=[], help="settings of edit, separated by spaces")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, appended")
    options = parser.parse_args()
    torch.set_num_threads(1)
    models = countgen.load(options.backbone, device="cpu")
    arms = {arm: with_text(EditSettings(), arm.split()) for arm in options.arm or [""]}
    records: dict[str, list[dict[str, Any]]] = {arm: [] for arm in (*arms, "plain")}

    def keep(arm: str, one: dict[str, Any]) -> None:
        records[arm].append(one)
        with options.out.open("a") as file:
            file.write(json.dumps({"backbone": options.backbone, "seeds": options.seeds, "arm": arm} | one) + "\n")

    for prompt, seed, plain in unresolved(models, options.seeds, options.for_each_count):
        keep("plain", plain)
        for arm, settings in arms.items():
            if plain["left_alone"]:
                keep(arm, plain)
                continue
            result = countgen.generate(
                prompt, models, method="edit", settings=settings, seed=seed, max_evaluations=MAX_EVALUATIONS
            )
            keep(arm, record(result) | {"left_alone": False})
    for arm, found in records.items():
        print(json.dumps({"arm": arm} | summary(found)))


if __name__ == "__main__":
    main()
