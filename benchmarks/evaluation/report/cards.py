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

_MAX_PIXELS = 64_000_000
_QUALITY = 75
_SIZE = "data-size"
"""Place of a drawing's size, which is known when its image is read."""


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


def disagreements(records: Sequence[Record], limit: int) -> list[Record]:
    """Return about whose images independent judges differ, the widest spread of their counts first."""
    found = []
    for record in records:
        votes = [counts(record, judge) for judge in _independent(record)]
        totals = [sum(vote) for vote in votes if vote is not None]
        if record.status == "done" and len(set(votes)) > 1 and totals:
            found.append((max(totals) - min(totals), record))
    return [record for _, record in sorted(found, key=lambda one: (-one[0], one[1].key))[:limit]]


def _independent(record: Record) -> list[str]:
    return [judge for judge in record.judges if judge not in record.critics and judge not in CONSENSUS]


def statuses(record: Record, judge: str | None = None) -> list[str]:
    """Return the statuses of a record by a judge, the first by default, by which the page filters."""
    judge = judge or record.judges[0]
    if record.status == "failed":
        return ["failed"]
    if counts(record, judge) is None:
        return ["no answer" if judge in record.judges else "not judged"]
    right = is_right(record, judge)
    found = ["right" if right else "wrong"]
    if record.confirmed and not right:
        found.append("confirmed, yet wrong")
    if len({counts(record, name) for name in _independent(record)}) > 1:
        found.append("judges differ")
    return found


def card(run: ReportedRun, record: Record, judges: Sequence[str]) -> str:
    """Return the list item of one image, with the counts of each judge, of which the page shows one.

    Args:
        run: of the record.
        record: of the image.
        judges: of the run, the first decides.
    """
    by_judge = {judge: statuses(record, judge) for judge in judges}
    words = by_judge[judges[0]]
    data = {
        "method": record.method,
        "backbone": record.backbone,
        "count": total(record),
        "statuses": json.dumps(by_judge),
    }
    attributes = " ".join(f'data-{name}="{escape(str(value))}"' for name, value in data.items())
    results = "".join(
        f"<div {shown_for(judge, judges)}>"
        + "".join(f"<p class=verdict>{line}</p>" for line in _result_lines(record, judge))
        + "</div>"
        for judge in judges
    )
    spent = _spent(record) if record.status == "done" else "not generated"
    confirmed = " · confirmed" if record.confirmed else ""
    return (
        f'<li class="card {words[0]}" {attributes}>{_images(run, record, judges)}{results}'
        f"<p class=prompt>{escape(record.prompt)}</p>"
        f"<p class=meta>{escape(f'{record.method} · seed {record.seed} · {spent}{confirmed}')}</p></li>"
    )


def shown_for(judge: str, judges: Sequence[str]) -> str:
    """Return the attributes of an element that the page shows while a judge is chosen."""
    return f'data-judge="{escape(judge)}"' + " hidden" * (judge != judges[0])


def disagreement(run: ReportedRun, record: Record) -> str:
    """Return the list item of an image about which judges differ, with the counts of each."""
    said = "".join(
        f"<p>{escape(judge)}: <b>{escape(_said(counts(record, judge)))}</b></p>" for judge in _independent(record)
    )
    wanted = " and ".join(f"{target.target_count} × {target.object_name}" for target in record.targets)
    return (
        f"<li class=card>{_figure('image', run.image_path(record), 'judges differ about it', '')}{said}"
        f"<p class=prompt>{escape(wanted)} asked for</p>"
        f"<p class=meta>{escape(f'{record.method} · seed {record.seed}')}</p></li>"
    )


def _said(found: tuple[int, ...] | None) -> str:
    return "no answer" if found is None else " and ".join(map(str, found))


def _spent(record: Record) -> str:
    return f"{record.evaluations} evaluation{'s' * (record.evaluations != 1)} · {record.seconds:.2f} s"


def _result_lines(record: Record, judge: str) -> list[str]:
    if record.status == "failed":
        return [f"failed: {escape(record.error or 'unknown')}"]
    found = counts(record, judge)
    if found is None:
        return statuses(record, judge)
    return [
        f"<b>{escape(str(count))}</b> of {target.target_count} × {escape(target.object_name)}"
        for count, target in zip(found, record.targets, strict=True)
    ]


def _images(run: ReportedRun, record: Record, judges: Sequence[str]) -> str:
    if record.status == "failed":
        return "<div class=pair><p class=missing>no image</p></div>"
    after, before = run.image_path(record), run.image_path(record, before=True)
    seen = _said(counts(record, judges[0]))
    overlays = "".join(_overlay(record, judge, judges) for judge in judges)
    wanted = " and ".join(map(str, target_counts(record)))
    shown = "" if before is None or before == after else _figure("before", before, "the plain image", "")
    shown += _figure("after" if shown else "image", after, f"the judge counts {seen}, target {wanted}", overlays)
    return f"<div class=pair>{shown}</div>"


def _overlay(record: Record, judge: str, judges: Sequence[str]) -> str:
    """Return a drawing of a judge's boxes in pixels of the image; "" where there are none."""
    rectangles = "".join(
        f"<rect x={x1} y={y1} width={max(0, x2 - x1)} height={max(0, y2 - y1)} />"
        for x1, y1, x2, y2 in record.boxes.get(judge, ())
    )
    return f"<svg {shown_for(judge, judges)} {_SIZE} aria-hidden=true>{rectangles}</svg>" if rectangles else ""


def _figure(caption: str, path: Path | None, alt_text: str, overlays: str) -> str:
    """Return a figure of a thumbnail with drawings on it, of the size of the whole image."""
    small = None if path is None else _thumbnail(path)
    if small is None:
        return f"<figure><p class=missing>image missing</p><figcaption>{caption}</figcaption></figure>"
    uri, width, height = small
    shown = f'<img alt="{escape(alt_text)}" src="{uri}">' + overlays.replace(_SIZE, f'viewBox="0 0 {width} {height}"')
    return f"<figure><div>{shown}</div><figcaption>{caption}</figcaption></figure>"


def _thumbnail(path: Path) -> tuple[str, int, int] | None:
    """Return a small JPEG as a data URI and the size of the full image; None where it cannot be read."""
    try:
        small = open_image(path, _MAX_PIXELS)
    except (OSError, ValueError):
        return None
    width, height = small.size
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}", width, height
