"""`countgen report`: the results of an evaluation as tables, plots and one HTML page; two evaluations compared."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, ClassVar, Literal

from typer import Argument, Option

from countgen.app.exit_codes import OK
from countgen.app.options import Json, bounded, flag, option
from countgen.app.terminal import fitted
from countgen.files.printable import printable

if TYPE_CHECKING:
    from countgen.benchmarks.evaluation.report.findings import Section
    from countgen.benchmarks.evaluation.report.reported_run import ReportedRun
    from countgen.benchmarks.evaluation.report.table import Table


@dataclass(frozen=True, kw_only=True)
class Export:
    """Formats of published benchmarks."""

    panel: ClassVar = "Export"
    export: Literal["geneval", "geneval-results", "geneval2"] | None = Option(
        None, help="write the images, or what a judge counts, for the tools of GenEval or GenEval 2 to --out"
    )
    method: str | None = option(None, "NAME", "whose images --export writes, if the run has several")
    judge: str | None = option(None, "NAME", "whose counts --export writes", "the run's first")


@dataclass(frozen=True, kw_only=True)
class Report(Json, Export):
    """Report on an evaluation: accuracy by count, cost, comparison of methods, agreement of judges and people.

    Prints tables; --out writes one self-contained HTML page. Two evaluations are compared, each method with itself on
    the cases of both: settings that differ, accuracy by each judge of both with exact McNemar tests, and the cases that
    only one of them gets right.
    """

    folders: list[Path] = Argument(..., metavar="RUN...", help="a run, the shards of one, or two runs to compare")
    baseline: str | None = option(None, "METHOD", "that the others are compared with", "search, else plain")
    out: Path | None = option(None, "PATH", "write FILE.html; or a FOLDER with report.html and the plots")
    images: int = bounded(400, "largest number of images in the page", least=0)
    calibration: Path | None = option(
        None, "RUN", "a labelled run that says how often its judges err", "this run's own labels"
    )
    parquet: Path | None = option(None, "FILE", "write a row per image: its record, and statistics of its pixels")
    tables: Literal["csv", "latex", "markdown"] | None = Option(None, help="print tables only, in this format")
    all: bool = flag("all", "print all tables, not only the first of each suite")
    cases: int = bounded(10, "changed cases of two runs that are listed", least=0)

    def run(self) -> int:
        from countgen.benchmarks.evaluation.report.reported_run import read_reported_run, shards_of_one_run

        if len(self.folders) == 2 and not shards_of_one_run(*self.folders):
            self._compare(*map(read_reported_run, ([folder] for folder in self.folders)))
            return OK
        run = read_reported_run(self.folders)
        if self.export:
            self._export(run)
        else:
            self._report(run)
        return OK

    def _export(self, run: "ReportedRun") -> None:
        from countgen.benchmarks.evaluation.suite_export import export, geneval_limits

        if self.out is None or self.export is None:
            raise ValueError("--export writes to --out PATH; give one")
        if self.export == "geneval":
            for warning in geneval_limits(run.records):
                print(fitted(warning), file=sys.stderr)
        images = export(run, self.export, self.out, method=self.method, judge=self.judge)
        print(json.dumps({"images": images}) if self.json else fitted(f"{images} images are in {self.out}"))

    def _report(self, run: "ReportedRun") -> None:
        from countgen.benchmarks.evaluation.image_files import lost_images_message
        from countgen.benchmarks.evaluation.report.export import as_json, write_parquet
        from countgen.benchmarks.evaluation.report.findings import findings
        from countgen.benchmarks.evaluation.report.reported_run import read_reported_run

        for folder, lost in run.lost().items():
            again = "the command that wrote them generates them again"
            print(printable(f"{lost_images_message(folder, lost)}; {again}"), file=sys.stderr)
        for folder, stray in run.stray.items():
            missing = f"labels or judgements of images that {folder} does not have, left out: {stray}"
            print(printable(missing), file=sys.stderr)
        calibrated_by = read_reported_run([self.calibration]) if self.calibration else None
        sections = findings(run, baseline=self.baseline, calibrated_by=calibrated_by)
        if self.parquet:
            write_parquet(run, self.parquet)
        if self.out:
            if find_spec("matplotlib") is None:
                raise ValueError("plots need matplotlib: pip install 'countgen[report]'")
            from countgen.benchmarks.evaluation.report.page import write_page

            print(printable(f"written: {write_page(run, sections, self.out, self.images)}"), file=sys.stderr)
        if self.json:
            print(json.dumps(as_json(sections), allow_nan=False))
        else:
            for section in sections:
                print("\n".join(self._section(section)))

    def _section(self, section: "Section") -> Iterator[str]:
        from countgen.benchmarks.evaluation.report.judge_tables import quality_warnings
        from countgen.benchmarks.evaluation.report.tables import tables

        title = f"{section.suite} on {section.backbone}"
        first, *others = tables(section)
        shown = (first, *others) if self.all else (first,)
        if self.tables:
            yield from (self._formatted(replace(table, title=f"{title}: {table.title}")) for table in shown)
            return
        yield printable(title) + "\n"
        yield from map(self._formatted, shown)
        if not self.all:
            yield from map(fitted, quality_warnings(section))
            if others:
                yield fitted(f"{len(others)} more tables: --all; as a page with images: --out report.html")

    def _formatted(self, table: "Table") -> str:
        from countgen.benchmarks.evaluation.report.table import FORMATS, as_text

        return FORMATS[self.tables](table) if self.tables else as_text(table, get_terminal_size().columns)

    def _compare(self, first: "ReportedRun", second: "ReportedRun") -> None:
        from countgen.benchmarks.evaluation.report.comparison_text import changes, differences, pairings
        from countgen.benchmarks.evaluation.report.export import plain
        from countgen.benchmarks.evaluation.run_comparison import compare_runs

        if self.out or self.parquet or self.export:
            raise ValueError("two runs are compared in the terminal; --out, --parquet and --export take one run")
        compared = compare_runs(first, second)
        if self.json:
            print(json.dumps(plain(compared), allow_nan=False))
            return
        if self.tables:
            print(self._formatted(pairings(compared)))
            return
        print("\n".join(map(fitted, differences(compared))))
        print(self._formatted(pairings(compared)))
        print("\n".join(fitted(line, hang=4) for line in changes(compared, self.cases)))
