"""An evaluation as HTML: the accuracy and cost of each method, and its failures."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from statistics import mean, median

from countgen.benchmarks.evaluation.failures import MOST_SHOWN
from countgen.benchmarks.evaluation.failures import failures as failures_of

from countgen.app.demo.html import counts_of, fact, hint, table
from countgen.app.demo.image_html import jpeg_uri
from countgen.app.demo.run_folders import read_image
from countgen.benchmarks.evaluation.metrics import by_arm, counts, scores, steered
from countgen.benchmarks.evaluation.plots import accuracy_by_compute, accuracy_by_count, to_svg
from countgen.benchmarks.evaluation.records import Record

IMAGE_SIDE = 200


def judges_of(records: Sequence[Record]) -> list[str]:
    """Return the judges and labellers of a run, the first judge first."""
    return list(dict.fromkeys(judge for record in records for judge in record.judges))


def overview(records: Sequence[Record], judge: str) -> str:
    """Return the facts, the table of methods and the plots of a run, by one judge."""
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
        warning = hint("This judge also steered some of these images, so its accuracy is biased upwards.")
    rows = [_row(name, mine, judge) for name, mine in arms.items()]
    heads = (
        *("Method", "Images", "Accuracy", "95 % confidence interval", "Off by at most 1"),
        *("Mean absolute error", "Median seconds", "Mean evaluations"),
    )
    return (
        f"<section class='run'><dl class='facts'>{facts}</dl>{warning}"
        f"{table('Accuracy and cost by method', heads, rows)}"
        f"<div class='plots'>{_plots(records, judge)}</div></section>"
    )


def failures(records: Sequence[Record], judge: str, folder: Path, method: str) -> str:
    """Return the images with a wrong count by a judge, with counts and targets, the largest errors first."""
    chosen = by_arm(records).get(method, [])
    wrong = failures_of(chosen, judge)
    cards = "".join(_card(record, judge, folder) for record in wrong[:MOST_SHOWN])
    head = f"<h2>Failures of {escape(method)}: {len(wrong)} of {len(chosen)}</h2>"
    if not wrong:
        return head + hint("All counts of this method are correct by this judge.")
    more = hint(f"The {MOST_SHOWN} largest errors are shown.") if len(wrong) > MOST_SHOWN else ""
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


def _percent(fraction: float) -> str:
    return "–" if math.isnan(fraction) else f"{100 * fraction:.0f} %"


def _plots(records: Sequence[Record], judge: str) -> str:
    figures = (
        ("Accuracy by count, with 95 % confidence intervals", accuracy_by_count(records, judge)),
        ("Accuracy against seconds, by the first judge", accuracy_by_compute(records, "seconds")),
    )
    return "".join(_plot(title, to_svg(figure)) for title, figure in figures)


def _plot(title: str, svg: str) -> str:
    """Return a plot as an image on white; it scrolls sideways on a phone and with the keyboard."""
    data = base64.b64encode(svg.encode()).decode("ascii")
    return (
        f"<figure tabindex='0' role='group' aria-label='{title}'>"
        f"<img src='data:image/svg+xml;base64,{data}' alt='{title}'><figcaption>{title}</figcaption></figure>"
    )


def _card(record: Record, judge: str, folder: Path) -> str:
    image = read_image(folder, record.image)
    preview = f"<img src='{jpeg_uri(image, IMAGE_SIDE)}' alt=''>" if image else ""
    found = counts(record, judge)
    missing = "no answer" if record.status == "done" else "not generated"
    outcome = missing if found is None else counts_of(record.targets, found)
    return (
        f"<li>{preview}<b>{escape(outcome)}</b><span>{escape(record.prompt)}</span><span>seed {record.seed}</span></li>"
    )
