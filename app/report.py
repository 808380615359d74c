"""`countgen report`: the results of an evaluation as tables, plots and one HTML page; two evaluations compared."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from shutil import get_terminal_size
from typing import Any

import msgspec
import numpy as np

from countgen.app.arguments import Report
from countgen.app.exit_codes import OK
from countgen.app.terminal import fitted
from countgen.benchmarks.evaluation.image_files import lost_images_message
from countgen.benchmarks.evaluation.report.findings import Section, findings
from countgen.benchmarks.evaluation.report.reported_run import ReportedRun, read_reported_run, shards_of_one_run
from countgen.benchmarks.evaluation.report.table import FORMATS, Table, as_text
from countgen.benchmarks.evaluation.report.tables import tables
from countgen.benchmarks.evaluation.run_comparison import changes, compare_runs, differences, pairings
from countgen.benchmarks.evaluation.suite_export import export, geneval_limits
from countgen.files.printable import printable


def run(command: Report) -> int:
    """Print the report, or write what is asked for."""
    if len(command.folders) == 2 and not shards_of_one_run(*command.folders):
        _compare(command, *map(read_reported_run, ([folder] for folder in command.folders)))
    elif command.export:
        _export(command, read_reported_run(command.folders))
    else:
        _report(command, read_reported_run(command.folders))
    return OK


def _export(command: Report, run: ReportedRun) -> None:
    if command.out is None or command.export is None:
        raise ValueError("--export writes to --out PATH; give one")
    if command.export == "geneval":
        for warning in geneval_limits(run.records):
            print(fitted(warning), file=sys.stderr)
    images = export(run, command.export, command.out, command.method)
    print(json.dumps({"images": images}) if command.json else fitted(f"{images} images are in {command.out}"))


def _report(command: Report, run: ReportedRun) -> None:
    for folder, lost in run.lost().items():
        again = "the command that wrote them generates them again"
        print(printable(f"{lost_images_message(folder, lost)}; {again}"), file=sys.stderr)
    for folder, stray in run.stray.items():
        missing = f"labels or judgements of images that {folder} does not have, left out: {stray}"
        print(printable(missing), file=sys.stderr)
    sections = findings(run, baseline=command.baseline)
    if command.out:
        if find_spec("matplotlib") is None:
            raise ValueError("plots need matplotlib: pip install 'countgen[report]'")
        from countgen.benchmarks.evaluation.report.page import write_page

        print(printable(f"written: {write_page(run, sections, command.out, command.images)}"), file=sys.stderr)
    if command.json:
        print(as_json({"schema": 1, "sections": sections}))
    else:
        for section in sections:
            print("\n".join(_section(command, section)))


def _section(command: Report, section: Section) -> Iterator[str]:
    title = f"{section.suite} on {section.backbone}"
    first, *others = tables(section)
    shown = (first, *others) if command.all else (first,)
    if command.tables:
        yield from (_formatted(command, replace(table, title=f"{title}: {table.title}")) for table in shown)
        return
    yield printable(title) + "\n"
    yield from (_formatted(command, table) for table in shown)
    if others and not command.all:
        yield fitted(f"{len(others)} more tables: --all; as a page with images: --out report.html")


def _formatted(command: Report, table: Table) -> str:
    return FORMATS[command.tables](table) if command.tables else as_text(table, get_terminal_size().columns)


def _compare(command: Report, first: ReportedRun, second: ReportedRun) -> None:
    if command.out or command.export:
        raise ValueError("two runs are compared in the terminal; --out and --export take one run")
    compared = compare_runs(first, second)
    table = _formatted(command, pairings(compared))
    if command.json:
        print(as_json(compared))
    elif command.tables:
        print(table)
    else:
        lines = [fitted(line, hang=4) for line in changes(compared, command.cases)]
        print("\n".join([*map(fitted, differences(compared)), table, *lines]))


def as_json(value: Any) -> str:
    """Return dataclasses, mappings, arrays and sequences as JSON in ASCII; unknown and infinite numbers are null."""
    # msgspec writes null for a number that is not finite; json escapes characters that a terminal obeys.
    return json.dumps(msgspec.json.decode(msgspec.json.encode(value, enc_hook=np.ndarray.tolist)))
