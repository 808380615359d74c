"""Write one self-contained HTML page: figures, plots, and images with filters; it loads no other resource."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from countgen.benchmarks.evaluation import metrics
from countgen.benchmarks.evaluation.consensus import with_consensus
from countgen.benchmarks.evaluation.plots import (
    accuracy_by_compute,
    accuracy_by_count,
    reliability_diagram,
    rendered,
    to_svg,
)
from countgen.benchmarks.evaluation.report import cards
from countgen.benchmarks.evaluation.report.findings import AXES, Section, judges_of
from countgen.benchmarks.evaluation.report.reported_run import ReportedRun
from countgen.benchmarks.evaluation.report.table import MARK_NOTE, judge_text, percent
from countgen.benchmarks.evaluation.report.tables import tables
from countgen.files.folder import output_path
from countgen.files.writing import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FOLDER = Path(__file__).parent
_TEMPLATES = Environment(
    loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_PLOTS = ("accuracy-by-count", *(f"accuracy-by-{axis}" for axis in AXES), "reliability")
MOST_DISAGREEMENTS = 12
"""Number of images in the page about which judges disagree."""


def write_page(run: ReportedRun, sections: Sequence[Section], out: Path, max_images: int) -> Path:
    """Write the page, and the plots if `out` is a folder, and return the page's path.

    Raises:
        ValueError: `out` has an ending that is not HTML's.
        OSError: a file cannot be written.
    """
    single = out.suffix.lower() in (".html", ".htm")
    if out.suffix[1:].isalpha() and not single and not out.is_dir():
        raise ValueError(f"--out takes FILE.html or a FOLDER, got {out}; --tables prints csv, latex and markdown")
    file = out if single else out / "report.html"
    folders = set(run.folders.values())
    output_path(file, folders).parent.mkdir(parents=True, exist_ok=True)
    figures = plots(run, sections)
    if not single:
        for name, figure in figures.items():
            for suffix in (".svg", ".pdf", ".png"):
                write_atomically(rendered(figure, suffix), output_path(out / f"{name}{suffix}", folders))
    # A file name in an error may hold a lone surrogate, which has no UTF-8.
    write_atomically(page(run, sections, figures, max_images).encode(errors="replace"), output_path(file, folders))
    return file


def plots(run: ReportedRun, sections: Sequence[Section]) -> dict[str, Figure]:
    """Return figures by file name, those of `_PLOTS` for each section."""
    figures: dict[str, Figure] = {}
    for section in sections:
        records = [r for r in run.records if (r.suite, r.backbone) == (section.suite, section.backbone)]
        judge, title = section.judges[0], f"Exact count by {judge_text(section, section.judges[0])}"
        drawn = (
            accuracy_by_count(records, judge, title),
            *(accuracy_by_compute(records, axis, f"{title} when stopped") for axis in AXES),
            reliability_diagram(records, judge, title),
        )
        figures |= {_plot_name(sections, section, name): figure for name, figure in zip(_PLOTS, drawn, strict=True)}
    return figures


def _plot_name(sections: Sequence[Section], section: Section, plot: str) -> str:
    """Return the file name without its ending; it contains backbone and suite only where there are several."""
    several = [section.backbone] * (len({other.backbone for other in sections}) > 1)
    several += [section.suite] * (len({other.suite for other in sections}) > 1)
    plain = ("".join(c if c.isalnum() or c in "-." else "-" for c in name) for name in several)
    return "-".join((*plain, plot))


def page(run: ReportedRun, sections: Sequence[Section], figures: Mapping[str, Figure], max_images: int) -> str:
    """Return the page.

    Args:
        run: to report.
        sections: its findings.
        figures: from `plots`.
        max_images: largest number of the run's images in it; all methods of a case or none.
    """
    style, script = ((_FOLDER / f"page.{suffix}").read_text("utf-8") for suffix in ("css", "js"))
    # Against code in prompts and file names: no resource is fetched, and no other script runs.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    judges = judges_of(with_consensus(run.records))
    shown = with_consensus(cards.chosen(run.records, max_images))
    with_images = [record for record in run.records if run.image_path(record)] if shown else []

    def data(section: Section, plot: str) -> str:
        return base64.b64encode(to_svg(figures[_plot_name(sections, section, plot)]).encode()).decode()

    return _TEMPLATES.get_template("page.html").render(
        run=run,
        style=style,
        script=script,
        policy=policy,
        judges=judges,
        facts=_facts(run, sections),
        sections=[(own, {plot: data(own, plot) for plot in _PLOTS}, tables(own)) for own in sections],
        disputed=cards.disagreements(with_images, min(MOST_DISAGREEMENTS, max_images)),
        shown=shown,
        has_images=any(run.image_path(record) for record in shown),
        totals=sorted({metrics.total(record) for record in shown}),
        every_status=dict.fromkeys(
            name for record in shown for judge in judges for name in cards.statuses(record, judge)
        ),
        statuses_by_judge=lambda record: {judge: cards.statuses(record, judge) for judge in judges},
        as_json=json.dumps,
        mark_note=MARK_NOTE,
        cards=cards,
        metrics=metrics,
        judge_text=judge_text,
        percent=percent,
    )


def _facts(run: ReportedRun, sections: Sequence[Section]) -> dict[str, str]:
    settings = run.settings
    failed = sum(record.status == "failed" for record in run.records)
    units = {"max_evaluations": "evaluations", "max_seconds": "s"}
    limits = [f"{settings[name]:g} {unit}" for name, unit in units.items() if settings.get(name) is not None]
    return {
        "images": f"{len(run.records)}" + (f", {failed} failed" if failed else ""),
        "suite": ", ".join(dict.fromkeys(section.suite for section in sections)),
        "backbone": ", ".join(dict.fromkeys(section.backbone for section in sections)),
        "steered by": ", ".join(dict.fromkeys(name for record in run.records for name in record.critics)),
        "judged by": ", ".join(dict.fromkeys(name for record in run.records for name in record.judges)),
        "budget an image": ", ".join(limits),
        "code": str(settings.get("code", "")),
    }
