"""Choose the images of a run that the page shows, and say of each what the page filters by."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from countgen.benchmarks.evaluation.comparison import case
from countgen.benchmarks.evaluation.consensus import CONSENSUS
from countgen.benchmarks.evaluation.metrics import counts, grouped, is_right, total
from countgen.benchmarks.evaluation.records import Record
from countgen.files.image_file import open_image

THUMBNAIL = 160
"""Longer side of a thumbnail in pixels."""

_QUALITY = 75


class Thumbnail(NamedTuple):
    """A small JPEG as a data URI, and the size of the full image."""

    uri: str
    width: int
    height: int


def chosen(records: Sequence[Record], limit: int) -> list[Record]:
    """Return at most `limit` records by count and case, evenly over backbones and counts; deterministic.

    A case is shown with all its methods, beside each other, or not at all.
    """
    cases = grouped(records, lambda record: (record.backbone, record.suite, case(record)))
    ordered = sorted(cases.values(), key=lambda methods: min(record.key for record in methods))
    groups = grouped(ordered, lambda methods: (methods[0].backbone, methods[0].suite, total(methods[0])))
    taken: list[list[Record]] = []
    for methods in (methods for turn in zip_longest(*groups.values()) for methods in turn if methods):
        if sum(map(len, taken)) + len(methods) > limit:
            break
        taken.append(methods)
    taken.sort(key=lambda m: (m[0].suite, m[0].backbone, total(m[0]), m[0].prompt, m[0].seed))
    return [record for methods in taken for record in methods]


def disagreements(records: Sequence[Record], limit: int) -> list[Record]:
    """Return the images about which independent judges differ, the widest spread of their counts first."""
    spreads = []
    for record in records:
        votes = [counts(record, judge) for judge in independent(record)]
        totals = [sum(vote) for vote in votes if vote is not None]
        if record.status == "done" and len(set(votes)) > 1 and totals:
            spreads.append((min(totals) - max(totals), record.key, record))
    return [record for _, _, record in sorted(spreads, key=lambda spread: spread[:2])[:limit]]


def independent(record: Record) -> list[str]:
    """Return the judges of an image that did not steer it, without what they agree on."""
    return [judge for judge in record.judges if judge not in record.critics and judge not in CONSENSUS]


def statuses(record: Record, judge: str) -> list[str]:
    """Return the statuses of a record by a judge, by which the page filters."""
    if record.status == "failed":
        return ["failed"]
    if counts(record, judge) is None:
        return ["no answer" if judge in record.judges else "not judged"]
    right = is_right(record, judge)
    names = ["right" if right else "wrong"]
    if record.confirmed and not right:
        names.append("confirmed, yet wrong")
    if len({counts(record, name) for name in independent(record)}) > 1:
        names.append("judges differ")
    return names


def details(record: Record) -> list[str]:
    """Return what an image cost and whether it is confirmed, as text."""
    spent = [f"{record.evaluations} evaluation{'s' * (record.evaluations != 1)}"]
    spent += [] if record.seconds is None else [f"{record.seconds:.2f} s"]
    return (["not generated"] if record.status == "failed" else spent) + ["confirmed"] * record.confirmed


def thumbnail(path: Path | None) -> Thumbnail | None:
    """Return an image as the page shows it; None where it is missing or cannot be read."""
    if path is None:
        return None
    try:
        small = open_image(path)
    except (OSError, ValueError):
        return None
    width, height = small.size
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=_QUALITY, optimize=True)
    return Thumbnail(f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}", width, height)
