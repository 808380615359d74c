"""A run as a page: what each method reaches, at what cost, and the pictures that failed."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from statistics import mean, median

from app.demo.html import asked, fact, hint, table
from app.demo.result_view import jpeg_uri
from app.demo.run_folders import picture_of
from benchmarks.evaluation.failures import MOST_SHOWN
from benchmarks.evaluation.failures import failures as failures_of
from benchmarks.evaluation.metrics import by_arm, counts, scores, steered
from benchmarks.evaluation.plots import accuracy_by_compute, accuracy_by_count, to_svg
from benchmarks.evaluation.records import Record

PICTURE_SIDE = 200


def judges_of(records: Sequence[Record]) -> list[str]:
    """Everyone who counted the run's pictures, the first judge first."""
    return list(dict.fromkeys(judge for record in records for judge in record.judges))


def overview(records: Sequence[Record], judge: str) -> str:
    """Facts, a table of the methods, and the plots, by one judge."""
    if not records:
        return hint("This run has no records yet.")
    arms = by_arm(records)
    facts = "".join(
        (
            fact("Suite", ", ".join(dict.fromkeys(r.suite for r in records))),
            fact("Images", str(len(records))),
            fact("Judge", judge),
            fact("Critics", ", ".join(dict.fromkeys(c for r in records for c in r.critics))),
        )
    )
    warning = ""
    if any(steered(record, judge) for record in records):
        warning = hint("This judge also steered some of these pictures: its numbers flatter them.")
    rows = [_row(name, mine, judge) for name, mine in arms.items()]
    heads = ("Method", "Images", "Right", "95 % interval", "At most 1 off", "Mean error", "Seconds", "Evaluations")
    return (
        f"<section class='run'><dl class='facts'>{facts}</dl>{warning}{table('What each method reaches', heads, rows)}"
        f"<div class='plots'>{_plots(records, judge)}</div></section>"
    )


def failures(records: Sequence[Record], judge: str, folder: Path, method: str) -> str:
    """The pictures that a judge does not accept, what was asked and what it found; the nearest misses last."""
    chosen = by_arm(records).get(method, [])
    wrong = failures_of(chosen, judge)
    cards = "".join(_card(record, judge, folder) for record in wrong[:MOST_SHOWN])
    head = f"<h2>Not reached by {escape(method)}: {len(wrong)} of {len(chosen)}</h2>"
    if not wrong:
        return head + hint("Every picture of this method is right by this judge.")
    more = hint(f"The {MOST_SHOWN} furthest off are shown.") if len(wrong) > MOST_SHOWN else ""
    return f"{head}{more}<ul class='failures'>{cards}</ul>"


def _row(name: str, records: Sequence[Record], judge: str) -> tuple[str, ...]:
    found = scores(records, judge)
    done = [record for record in records if record.status == "done"]
    failed = f" ({found.failed} failed)" if found.failed else ""
    return (
        name,
        f"{found.images}{failed}",
        _percent(found.accuracy),
        f"{100 * found.interval[0]:.0f} to {100 * found.interval[1]:.0f}",
        _percent(found.off_by_one),
        "–" if math.isnan(found.mae) else f"{found.mae:.2f}",
        f"{median(r.seconds for r in done):.2f}" if done else "–",
        f"{mean(r.evaluations for r in done):.0f}" if done else "–",
    )


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.0f} %"


def _plots(records: Sequence[Record], judge: str) -> str:
    drawn = (
        ("Accuracy by count, with 95 % intervals", accuracy_by_count(records, judge)),
        ("Accuracy against seconds, by the first judge", accuracy_by_compute(records, "seconds")),
    )
    return "".join(_plot(title, to_svg(figure)) for title, figure in drawn)


def _plot(title: str, svg: str) -> str:
    """As an image: its colours are chosen for white. A phone scrolls it sideways, the keyboard too."""
    data = base64.b64encode(svg.encode()).decode("ascii")
    return (
        f"<figure tabindex='0' role='group' aria-label='{title}'>"
        f"<img src='data:image/svg+xml;base64,{data}' alt='{title}'><figcaption>{title}</figcaption></figure>"
    )


def _card(record: Record, judge: str, folder: Path) -> str:
    picture = picture_of(folder, record.image)
    image = f"<img src='{jpeg_uri(picture, PICTURE_SIDE)}' alt=''>" if picture else ""
    found = counts(record, judge)
    said = "failed to draw" if found is None else f"target {_joined(t.target_count for t in record.targets)}, found "
    said += "" if found is None else _joined(found)
    return (
        f"<li>{image}<b>{escape(said)}</b><span>{escape(record.prompt)}</span>"
        f"<span>{escape(asked(record.targets))} · seed {record.seed}</span></li>"
    )


def _joined(numbers: Iterable[int]) -> str:
    return " + ".join(map(str, numbers))
