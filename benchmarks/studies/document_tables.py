"""Write what the studies found into the README and docs/results.md: `python -m benchmarks.studies.document_tables`.

Between the lines `<!-- study: FOLDER -->` and `<!-- end of study -->` stands the table of the run in that folder, of
all methods or of those named after the folder, and whatever else is there is replaced. In place of a folder stands the
name of a registered study; with methods after it, `beyond-seeds` is a summary. The curve of benchmarks/results/study
goes to docs/study-by-evaluations.svg.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks.evaluation.consensus import CONSENSUS
from benchmarks.evaluation.metrics import Scores, by_level
from benchmarks.evaluation.plots import save
from benchmarks.evaluation.report.findings import Section, findings
from benchmarks.evaluation.report.page import plots
from benchmarks.evaluation.report.reported_run import ReportedRun, read_reported_run
from benchmarks.evaluation.report.table import percent
from benchmarks.studies import beyond_seeds, learned, learned_pixart

DOCUMENTS = tuple(map(Path, ("README.md", "docs/results.md", "docs/study-results.md", "docs/study-results-learned.md")))
REGISTERED = {study.name: study for study in (beyond_seeds.STUDY, learned.STUDY, learned_pixart.STUDY)}
STUDY = "benchmarks/results/study"
CURVE = Path("docs/study-by-evaluations.svg")
_LEVELS = {"easy": "1-5", "medium": "6-10", "hard": "11-15"}
_MARKED = re.compile(r"(<!-- study: (\S+)(?: (\S+))? -->\n).*?(<!-- end of study -->)", re.DOTALL)


def table(run: ReportedRun, section: Section, names: Sequence[str] = ()) -> str:
    """Return a Markdown line for each method, or for those named: right counts in % by level, in all, by each judge.

    95 % Wilson intervals; a cell of fewer images than the column's says so.
    """
    first, *others = [judge for judge in section.judges if judge not in (*section.steered, *CONSENSUS)]
    columns: dict[str, list[Scores | None]] = {}
    for level in by_level(run.records):
        columns[_LEVELS.get(level, level)] = [method.levels.get(level) for method in section.methods]
    for judge in (first, *others):
        columns[f"all, by {judge}"] = [method.scores.get(judge) for method in section.methods]
    most = [max((cell.images for cell in cells if cell), default=0) for cells in columns.values()]
    header = [f"{name} (n = {images})" for name, images in zip(columns, most, strict=True)]
    lines = [["method", *header], ["---"] * (1 + len(columns))]
    for place, method in enumerate(section.methods):
        if names and method.name not in names:
            continue
        cells = [_cell(column[place], images) for column, images in zip(columns.values(), most, strict=True)]
        lines.append([method.name, *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(found: Scores | None, images: int) -> str:
    if found is None:
        return "-"
    low, high = found.interval
    fewer = f", n = {found.images}" if found.images < images else ""
    return f"{percent(found.accuracy)} [{percent(low)}, {percent(high)}]{fewer}"


def with_tables(text: str) -> str:
    """A document with its marked tables as the runs say.

    Raises:
        ValueError: a marked folder is no run.
    """

    def written(found: re.Match[str]) -> str:
        names = found[3].split(",") if found[3] else ()
        if found[2] in REGISTERED:
            text = beyond_seeds.summary(names) if names else REGISTERED[found[2]].results()
            return f"{found[1]}{text}\n{found[4]}"
        return found[1] + table(*_first_section(found[2]), names) + found[4]

    return _MARKED.sub(written, text)


def _first_section(folder: str) -> tuple[ReportedRun, Section]:
    run = read_reported_run([folder])
    return run, findings(run)[0]


def main() -> int:
    """Write the tables and the curve; started in the repository's root."""
    folders = []
    for document in DOCUMENTS:
        text = document.read_text("utf-8")
        folders += [found[2] for found in _MARKED.finditer(text)]
        document.write_text(with_tables(text), "utf-8")
    run, section = _first_section(STUDY)
    save(plots(run, [section])["accuracy-by-evaluations"], CURVE)
    print(f"{', '.join(folders)}; {CURVE}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
