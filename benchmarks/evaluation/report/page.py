"""Write one self-contained HTML page: figures, plots, and images with filters; it loads no other resource."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from countgen.benchmarks.evaluation.consensus import with_consensus
from countgen.benchmarks.evaluation.metrics import total
from countgen.benchmarks.evaluation.plots import accuracy_by_compute, accuracy_by_count, rendered, to_svg
from countgen.benchmarks.evaluation.report.cards import card, chosen, disagreement, disagreements, shown_for, statuses
from countgen.benchmarks.evaluation.report.findings import AXES, Section, judges_of
from countgen.benchmarks.evaluation.report.judge_tables import quality_warnings
from countgen.benchmarks.evaluation.report.reported_run import ReportedRun
from countgen.benchmarks.evaluation.report.table import MARK_NOTE, Table, judge_text, percent
from countgen.benchmarks.evaluation.report.tables import tables
from countgen.files.folder import output_path
from countgen.files.writing import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PLOTS = ("count", *AXES)
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
    """Return figures by file name, three for each section."""
    figures: dict[str, Figure] = {}
    for section in sections:
        records = [r for r in run.records if (r.suite, r.backbone) == (section.suite, section.backbone)]
        judge, title = section.judges[0], f"Exact count by {judge_text(section, section.judges[0])}"
        by_count, *by_axis = (_plot_name(sections, section, plot) for plot in _PLOTS)
        figures[by_count] = accuracy_by_count(records, judge, title)
        for name, axis in zip(by_axis, AXES, strict=True):
            figures[name] = accuracy_by_compute(records, axis, f"{title} when stopped")
    return figures


def _plot_name(sections: Sequence[Section], section: Section, plot: str) -> str:
    """Return the file name without its ending; it contains backbone and suite only where there are several."""
    several = [section.backbone] * (len({other.backbone for other in sections}) > 1)
    several += [section.suite] * (len({other.suite for other in sections}) > 1)
    plain = ("".join(c if c.isalnum() or c in "-." else "-" for c in name) for name in several)
    return "-".join((*plain, f"accuracy-by-{plot}"))


def page(run: ReportedRun, sections: Sequence[Section], figures: Mapping[str, Figure], max_images: int) -> str:
    """Return the page.

    Args:
        run: to report.
        sections: its findings.
        figures: from `plots`.
        max_images: largest number of the run's images in it; all methods of a case or none.
    """
    style, script = (Path(__file__).with_name(f"page.{suffix}").read_text("utf-8") for suffix in ("css", "js"))
    # Against code in prompts and file names: no resource is fetched, and no other script runs.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    judges = judges_of(with_consensus(run.records))
    parts = (_head(run, sections, judges), _sections(sections, figures), _gallery(run, max_images, judges))
    body = "\n".join(chain.from_iterable(parts))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(run.name)}: counting report</title>
<style>{style}</style>
</head>
<body>
{body}
<script>{script}</script>
</body>
</html>
"""


def _head(run: ReportedRun, sections: Sequence[Section], judges: Sequence[str]) -> Iterator[str]:
    settings = run.settings
    failed = sum(record.status == "failed" for record in run.records)
    units = {"max_evaluations": "evaluations", "max_seconds": "s"}
    limits = [f"{settings[name]:g} {unit}" for name, unit in units.items() if settings.get(name) is not None]
    facts = {
        "images": f"{len(run.records)}" + (f", {failed} failed" if failed else ""),
        "suite": ", ".join(dict.fromkeys(section.suite for section in sections)),
        "backbone": ", ".join(dict.fromkeys(section.backbone for section in sections)),
        "steered by": ", ".join(dict.fromkeys(name for record in run.records for name in record.critics)),
        "judged by": ", ".join(dict.fromkeys(name for record in run.records for name in record.judges)),
        "budget an image": ", ".join(limits),
        "code": str(settings.get("code", "")),
    }
    yield f"<header><p class=eyebrow>Counting report</p><h1>{escape(run.name)}</h1><dl class=facts>"
    yield from (f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items() if value)
    yield f"</dl>{_judge_switch(judges, 'judge')}</header><main>"


def _sections(sections: Sequence[Section], figures: Mapping[str, Figure]) -> Iterator[str]:
    for number, section in enumerate(sections):
        yield f"<section><h2>{escape(section.suite)} <small>on {escape(section.backbone)}</small></h2>"
        for judge in section.judges:
            yield f"<div {shown_for(judge, section.judges)}>{''.join(_bars(section, judge))}</div>"
        yield "<div class=plots>"
        for plot in _PLOTS:
            data = base64.b64encode(to_svg(figures[_plot_name(sections, section, plot)]).encode()).decode()
            alt_text = f"Fraction of images right by {plot}, a line for each method, as in the tables below"
            yield (
                f'<div class="plot plot-{plot}" role=region tabindex=0 aria-label="Plot by {plot}">'
                f'<img alt="{alt_text}" src="data:image/svg+xml;base64,{data}"></div>'
            )
        yield "</div>"
        yield from (f"<p class=note>{escape(warning)}</p>" for warning in quality_warnings(section))
        for place, table in enumerate(tables(section)):
            yield _table(table, is_open=number == place == 0)
        yield "</section>"


def _bars(section: Section, judge: str) -> Iterator[str]:
    yield f"<h3>Images with exactly the count asked for, by {escape(judge_text(section, judge))}</h3><ul class=bars>"
    for method in section.methods:
        if judge not in method.scores:
            continue
        scores = method.scores[judge]
        low, high = (100 * end for end in scores.interval)
        yield (
            f"<li><span class=name>{escape(method.name)}</span>"
            f'<span class=track aria-hidden=true><span class=bar style="width:{100 * scores.accuracy:.1f}%"></span>'
            f'<span class=whisker style="left:{low:.1f}%;width:{high - low:.1f}%"></span></span>'
            f"<span class=value><b>{percent(scores.accuracy)} %</b> <small>{low:.0f} to {high:.0f}</small></span></li>"
        )
    yield "</ul>"
    yield "<p class=note>Bars: share of images; lines: 95 % Wilson intervals, images taken as independent.</p>"
    if judge in section.steered:
        yield f"<p class=note>{escape(MARK_NOTE)}</p>"


def _table(table: Table, is_open: bool) -> str:
    head = "".join(f"<th scope=col>{escape(name)}</th>" if name else "<td></td>" for name in table.header)
    rows = "".join(
        f"<tr><th scope=row{' class=under' if row[0].startswith(' ') else ''}>{escape(row[0].strip())}</th>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in table.rows
    )
    note = f"<p class=note>{escape(table.note)}</p>" if table.note else ""
    return (
        f"<details{' open' * is_open}><summary>{escape(table.title)}</summary>"
        f'<div class=scroll role=region tabindex=0 aria-label="{escape(table.title)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{note}</details>"
    )


def _gallery(run: ReportedRun, max_images: int, judges: Sequence[str]) -> Iterator[str]:
    shown = with_consensus(chosen(run.records, max_images))
    if not shown:
        yield "</main>"
        return
    yield from _disagreements(run, min(MOST_DISAGREEMENTS, max_images))
    yield "<section><h2>Images</h2>"
    if not any(run.image_path(record) for record in shown):
        yield "<p class=note>The images of this run are not beside its records.</p></section></main>"
        return
    if len(shown) < len(run.records):
        yield f"<p class=note>{len(shown)} of {len(run.records)}: cases of every count, with all their methods.</p>"
    yield "<form class=filters hidden>"
    yield _select("method", "all methods", dict.fromkeys(record.method for record in shown))
    if len({record.backbone for record in shown}) > 1:
        yield _select("backbone", "all backbones", dict.fromkeys(record.backbone for record in shown))
    yield _select("count", "all counts", sorted({total(record) for record in shown}))
    every = (status for record in shown for judge in judges for status in statuses(record, judge))
    yield _select("status", "all", dict.fromkeys(every))
    yield _judge_switch(judges)
    yield "<label class=check><input type=checkbox name=boxes> what the judge counted</label>"
    yield "<output aria-live=polite></output></form><ul class='cards filtered'>"
    yield from (card(run, record, judges) for record in shown)
    yield "</ul></section></main>"


def _disagreements(run: ReportedRun, limit: int) -> Iterator[str]:
    records = disagreements([record for record in run.records if run.image_path(record)], limit)
    if records:
        yield "<section><h2>Where judges disagree</h2>"
        yield "<p class=note>Images with the widest spread of counts by independent judges and people.</p>"
        yield f"<ul class=cards>{''.join(disagreement(run, record) for record in records)}</ul></section>"


def _judge_switch(judges: Sequence[str], kind: str = "") -> str:
    """Return a field that chooses the judge of the whole page, as every such field; nothing for a single judge."""
    if len(judges) < 2:
        return ""
    options = "".join(f"<option>{escape(judge)}</option>" for judge in judges)
    return f"<label{f' class={kind} hidden' if kind else ''}>judge<select name=judge>{options}</select></label>"


def _select(name: str, everything: str, values: Sequence[int] | Mapping[str, None]) -> str:
    options = "".join(f"<option>{escape(str(value))}</option>" for value in values)
    return f'<label>{name}<select name={name}><option value="">{everything}</option>{options}</select></label>'
