"""A result as a record for JSON, and as lines for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from countgen import Result
from countgen.app.terminal import fitted
from countgen.critics import NO_ANSWER, Detections
from countgen.progress import duration
from countgen.prompts.plurals import counted, counted_in_words, counts_in_words, differences_in_words


def record_of(result: Result, before: Path, after: Path) -> dict[str, Any]:
    """Return the record of a result, for JSON, with the files of its two images."""
    measures = ("objects_kept", "background_change", "structural_similarity", "probability")
    same = ("confirmed", "verified", "method", "phase", "steps", "evaluations", "stopped")
    return {
        "seed": result.seed,
        "image_seed": result.recipe["candidate_seed"],
        "before": str(before),
        "after": str(after),
        "targets": {target.object_name: target.target_count for target in result.targets},
        "counts": list(result.counts),
        "judge_counts": [None if count == NO_ANSWER else count for count in result.judge_counts],
        "before_counts": list(map(len, result.before_detections)) if result.before_detections else None,
        **{name: None if (value := getattr(result, name)) is None else round(value, 4) for name in measures},
        "seconds": round(result.seconds, 3),
        **{name: getattr(result, name) for name in same},
    }


def boxes_of(detections: Sequence[Detections]) -> dict[str, list[dict[str, Any]]]:
    """Return boxes (absolute-pixel xyxy) and scores by object name, for JSON."""
    return {
        detected.object_name: [
            {"box": [round(value, 1) for value in box], "score": round(score, 4)}
            for box, score in zip(detected.boxes.tolist(), detected.scores.tolist(), strict=True)
        ]
        for detected in detections
    }


def report(record: dict[str, Any], *, preservation: bool = False) -> None:
    """Print a record as text, with the measures of what is kept of the image before if `preservation` is set."""
    print(fitted(f"{_verdict(record)} ->", path=record["after"]))
    before = ""
    if record["before_counts"] is not None:
        before = f": {counted_in_words(dict(zip(record['targets'], record['before_counts'], strict=True)))}"
    print(fitted(f"  before{before} ->", hang=4, path=record["before"]))
    if preservation and record["objects_kept"] is not None:
        kept = (
            f"{record['objects_kept']:.0%} of the objects kept, background changed by {record['background_change']:.3f}"
        )
        print(fitted(f"  {kept} ({record['phase']})", hang=4))
    if record["stopped"]:
        print(fitted(f"  stopped early: {record['stopped']}", hang=4))


def _verdict(record: dict[str, Any]) -> str:
    """Return the judge's counts, what is wrong with them, and what they cost."""
    by = "judge"
    if record["counts"] != record["judge_counts"]:
        by += f"; critic {' and '.join(map(str, record['counts']))}"
    counts, targets = record["judge_counts"], record["targets"]
    wrong = differences_in_words(counts, targets)
    evaluations = f"{record['evaluations']} {counted('evaluation', record['evaluations'])}"
    found_at = "" if record["image_seed"] == record["seed"] else f", found at seed {record['image_seed']}"
    return (
        f"seed {record['seed']}: {counts_in_words(counts, targets)} ({by}){f', {wrong},' if wrong else ''} "
        f"after {evaluations}, {duration(record['seconds'])}{found_at}"
    )
