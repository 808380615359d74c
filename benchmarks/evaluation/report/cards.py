"""Cards of a run's images: before and after, target counts, the judges' counts."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from html import escape
from itertools import zip_longest
from pathlib import Path

from PIL import Image

from countgen.benchmarks.evaluation.comparison import case
from countgen.benchmarks.evaluation.consensus import CONSENSUS
from countgen.benchmarks.evaluation.metrics import counts, grouped, is_right, target_counts, total
from countgen.benchmarks.evaluation.records import Record
from countgen.benchmarks.evaluation.report.reported_run import ReportedRun
from countgen.files.image_file import open_image

THUMBNAIL = 160
"""Longer side of a thumbnail in pixels."""

_QUALITY = 75
_SIZE = "data-size"
"""Place of a drawing's size, which is known when its image is read."""


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
        votes = [counts(record, judge) for judge in _independent(record)]
        totals = [sum(vote) for vote in votes if vote is not None]
        if record.status == "done" and len(set(votes)) > 1 and totals:
            spreads.append((min(totals) - max(totals), record.key, record))
    return [record for _, _, record in sorted(spreads, key=lambda spread: spread[:2])[:limit]]


def _independent(record: Record) -> list[str]:
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
    if len({counts(record, name) for name in _independent(record)}) > 1:
        names.append("judges differ")
    return names


def card(run: ReportedRun, record: Record, judges: Sequence[str]) -> str:
    """Return the list item of one image, with the counts of each judge, of which the page shows one.

    Args:
        run: of the record.
        record: of the image.
        judges: of the run, the first decides.
    """
    by_judge = {judge: statuses(record, judge) for judge in judges}
    data = {"method": record.method, "backbone": record.backbone, "count": total(record)}
    data["statuses"] = json.dumps(by_judge)
    attributes = " ".join(f'data-{name}="{escape(str(value))}"' for name, value in data.items())
    results = "".join(f"<div {shown_for(judge, judges)}>{_result(record, judge)}</div>" for judge in judges)
    spent = [f"{record.evaluations} evaluation{'s' * (record.evaluations != 1)}"]
    spent += [] if record.seconds is None else [f"{record.seconds:.2f} s"]
    details = (["not generated"] if record.status == "failed" else spent) + ["confirmed"] * record.confirmed
    content = f"<div class=pair>{_images(run, record, judges)}</div>{results}"
    return _item(record, content, record.prompt, *details, opening=f'"card {by_judge[judges[0]][0]}" {attributes}')


def disagreement(run: ReportedRun, record: Record) -> str:
    """Return the list item of an image about which judges differ, with the counts of each."""
    votes = "".join(
        f"<p>{escape(judge)}: <b>{_counts_text(counts(record, judge))}</b></p>" for judge in _independent(record)
    )
    targets = " and ".join(f"{target.target_count} × {target.object_name}" for target in record.targets)
    figure = _figure("image", run.image_path(record), "judges differ about it", "")
    return _item(record, figure + votes, f"{targets} asked for")


def _item(record: Record, content: str, prompt: str, *details: str, opening: str = "card") -> str:
    meta = " · ".join((record.method, f"seed {record.seed}", *details))
    return f"<li class={opening}>{content}<p class=prompt>{escape(prompt)}</p><p class=meta>{escape(meta)}</p></li>"


def shown_for(judge: str, judges: Sequence[str]) -> str:
    """Return the attributes of an element that the page shows while a judge is chosen."""
    return f'data-judge="{escape(judge)}"' + " hidden" * (judge != judges[0])


def _counts_text(counted: tuple[int, ...] | None) -> str:
    return "no answer" if counted is None else " and ".join(map(str, counted))


def _result(record: Record, judge: str) -> str:
    counted = counts(record, judge)
    if record.status == "failed":
        lines = [f"failed: {escape(record.error or 'unknown')}"]
    elif counted is None:
        lines = statuses(record, judge)
    else:
        asked = [f"{target.target_count} × {escape(target.object_name)}" for target in record.targets]
        lines = [f"<b>{count}</b> of {target}" for count, target in zip(counted, asked, strict=True)]
    return "".join(f"<p class=verdict>{line}</p>" for line in lines)


def _images(run: ReportedRun, record: Record, judges: Sequence[str]) -> str:
    if record.status == "failed":
        return "<p class=missing>no image</p>"
    after, before = run.image_path(record), run.image_path(record, before=True)
    overlays = "".join(_overlay(record, judge, judges) for judge in judges)
    counted, target = _counts_text(counts(record, judges[0])), _counts_text(target_counts(record))
    alt_text = f"the judge counts {counted}, target {target}"
    if before is None or before == after:
        return _figure("image", after, alt_text, overlays)
    return _figure("before", before, "the plain image", "") + _figure("after", after, alt_text, overlays)


def _overlay(record: Record, judge: str, judges: Sequence[str]) -> str:
    """Return a drawing of a judge's boxes in pixels of the image; "" without boxes."""
    rectangles = "".join(
        f"<rect x={x1} y={y1} width={max(0, x2 - x1)} height={max(0, y2 - y1)} />"
        for x1, y1, x2, y2 in record.boxes.get(judge, ())
    )
    return f"<svg {shown_for(judge, judges)} {_SIZE} aria-hidden=true>{rectangles}</svg>" if rectangles else ""


def _figure(caption: str, path: Path | None, alt_text: str, overlays: str) -> str:
    """Return a figure of a thumbnail with drawings on it, of the size of the whole image."""
    thumbnail = None if path is None else _thumbnail(path)
    if thumbnail is None:
        return f"<figure><p class=missing>image missing</p><figcaption>{caption}</figcaption></figure>"
    uri, width, height = thumbnail
    overlays = overlays.replace(_SIZE, f'viewBox="0 0 {width} {height}"')
    content = f'<div><img alt="{escape(alt_text)}" src="{uri}">{overlays}</div>'
    return f"<figure>{content}<figcaption>{caption}</figcaption></figure>"


def _thumbnail(path: Path) -> tuple[str, int, int] | None:
    """Return a small JPEG as a data URI and the size of the full image; None where it cannot be read."""
    try:
        small = open_image(path)
    except (OSError, ValueError):
        return None
    width, height = small.size
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}", width, height
