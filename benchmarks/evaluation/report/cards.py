"""Cards of a run's images: before and after, target counts, the judge's counts."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from itertools import zip_longest
from pathlib import Path

from PIL import Image

from benchmarks.evaluation.comparison import case
from benchmarks.evaluation.image_files import open_image
from benchmarks.evaluation.metrics import counts, grouped, is_right, target_counts, total
from benchmarks.evaluation.records import Record
from benchmarks.evaluation.report.reported_run import ReportedRun

THUMBNAIL = 160
"""Longer side of a thumbnail in pixels."""

_MAX_PIXELS = 64_000_000
_QUALITY = 75


def chosen(records: Sequence[Record], limit: int) -> list[Record]:
    """Return about `limit` records at most, by count and case, evenly over backbones and counts; deterministic.

    A case is shown with all its methods, beside each other, or not at all.
    """
    cases = grouped(records, lambda record: (record.backbone, case(record)))
    ordered = sorted(cases.values(), key=lambda mine: min(record.key for record in mine))
    groups = grouped(ordered, lambda mine: (mine[0].backbone, mine[0].suite, total(mine[0])))
    taken: list[list[Record]] = []
    for mine in (one for turn in zip_longest(*groups.values()) for one in turn if one):
        if sum(map(len, taken)) + len(mine) > limit:
            break
        taken.append(mine)
    taken.sort(key=lambda mine: (mine[0].suite, mine[0].backbone, total(mine[0]), mine[0].prompt, mine[0].seed))
    return [record for mine in taken for record in mine]


def statuses(record: Record) -> list[str]:
    """Return the statuses of a record by which the page filters."""
    if record.status == "failed":
        return ["failed"]
    right = is_right(record, record.judges[0])
    found = ["right" if right else "wrong"]
    if record.confirmed and not right:
        found.append("confirmed, yet wrong")
    if len({counts(record, judge) for judge in record.judges}) > 1:
        found.append("judges differ")
    return found


def card(run: ReportedRun, record: Record) -> str:
    """Return the list item of one image."""
    words = statuses(record)
    data = {"method": record.method, "backbone": record.backbone, "count": total(record), "status": "|".join(words)}
    attributes = " ".join(f'data-{name}="{escape(str(value))}"' for name, value in data.items())
    results = "".join(f"<p class=verdict>{line}</p>" for line in _result_lines(record))
    spent = _spent(record) if record.status == "done" else "not generated"
    confirmed = " · confirmed" if record.confirmed else ""
    return (
        f'<li class="card {words[0]}" {attributes}>{_images(run, record)}{results}'
        f"<p class=prompt>{escape(record.prompt)}</p>"
        f"<p class=meta>{escape(f'{record.method} · seed {record.seed} · {spent}{confirmed}')}</p></li>"
    )


def _spent(record: Record) -> str:
    return f"{record.evaluations} evaluation{'s' * (record.evaluations != 1)} · {record.seconds:.2f} s"


def _result_lines(record: Record) -> list[str]:
    if record.status == "failed":
        return [f"failed: {escape(record.error or 'unknown')}"]
    found = counts(record, record.judges[0]) or ()
    return [
        f"<b>{escape(str(count))}</b> of {target.target_count} × {escape(target.object_name)}"
        for count, target in zip(found, record.targets, strict=False)
    ]


def _images(run: ReportedRun, record: Record) -> str:
    if record.status == "failed":
        return "<div class=pair><p class=missing>no image</p></div>"
    after, before = run.image_path(record), run.image_path(record, before=True)
    seen = " and ".join(str(count) for count in counts(record, record.judges[0]) or ())
    wanted = " and ".join(map(str, target_counts(record)))
    shown = "" if before is None or before == after else _figure("before", before, "the plain image", record, False)
    shown += _figure("after" if shown else "image", after, f"the judge counts {seen}, target {wanted}", record, True)
    return f"<div class=pair>{shown}</div>"


def _figure(caption: str, path: Path | None, alt_text: str, record: Record, boxes: bool) -> str:
    small = None if path is None else _thumbnail(path)
    if small is None:
        return f"<figure><p class=missing>image missing</p><figcaption>{caption}</figcaption></figure>"
    uri, width, height = small
    rectangles = "".join(
        f"<rect x={x1} y={y1} width={max(0, x2 - x1)} height={max(0, y2 - y1)} />"
        for x1, y1, x2, y2 in (record.boxes.get(record.judges[0], ()) if boxes else ())
    )
    overlay = f'<svg viewBox="0 0 {width} {height}" aria-hidden=true>{rectangles}</svg>' if rectangles else ""
    shown = f'<img alt="{escape(alt_text)}" src="{uri}">{overlay}'
    return f"<figure><div>{shown}</div><figcaption>{caption}</figcaption></figure>"


def _thumbnail(path: Path) -> tuple[str, int, int] | None:
    """Return a small JPEG as a data URI and the size of the full image; None where it cannot be read."""
    try:
        with open_image(path) as stored:
            width, height = stored.size
            if width * height > _MAX_PIXELS:
                return None
            small = stored.convert("RGB")
    except (OSError, SyntaxError, ValueError):
        return None
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}", width, height
