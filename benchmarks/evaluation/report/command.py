"""The command line of reports, shared by `python -m countgen.benchmarks.evaluation.report` and `countgen report`."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from countgen.files.folder import output_path
from countgen.files.printable import printable
from countgen.files.writing import write_atomically

if TYPE_CHECKING:
    from countgen.benchmarks.evaluation.report.findings import Section
    from countgen.benchmarks.evaluation.report.reported_run import ReportedRun

# Nothing heavy is imported above: `countgen report --help` reads this file.

DEFAULT_IMAGES = 400


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command line."""
    parser.add_argument("folders", nargs="+", metavar="RUN", help="folder of a run, or the folders of its shards")
    parser.add_argument("--against", type=Path, metavar="RUN", help="compare with this run on the cases of both")
    parser.add_argument("--baseline", metavar="METHOD", help="that the others are compared with (search, else plain)")
    parser.add_argument(
        "--out", type=Path, metavar="PATH", help="write FILE.html; or a FOLDER with report.html and the plots"
    )
    parser.add_argument(
        "--images",
        type=int,
        default=DEFAULT_IMAGES,
        metavar="N",
        help="largest number of images in the page (%(default)s)",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="RUN",
        help="a labelled run that says how often its judges err (this run's own labels)",
    )
    parser.add_argument(
        "--parquet", type=Path, metavar="FILE", help="write a row per image: its record, and statistics of its pixels"
    )
    parser.add_argument("--all", action="store_true", help="print all tables, not only the first of each suite")
    parser.add_argument("--json", action="store_true", help="print the findings as one JSON object, not as tables")


def run(options: argparse.Namespace) -> int:
    """Report on a run and return 0.

    Raises:
        ValueError: no run, runs that do not fit, or a library that is not installed.
        OSError: a file cannot be written.
    """
    from countgen.benchmarks.evaluation.image_files import lost_images_message
    from countgen.benchmarks.evaluation.report.export import as_json, write_parquet
    from countgen.benchmarks.evaluation.report.findings import findings
    from countgen.benchmarks.evaluation.report.judge_tables import quality_warnings
    from countgen.benchmarks.evaluation.report.reported_run import read_reported_run
    from countgen.benchmarks.evaluation.report.table import as_text
    from countgen.benchmarks.evaluation.report.tables import tables

    if options.images < 0:
        raise ValueError(f"--images must be 0 or more, got {options.images}")
    mine = read_reported_run(options.folders)
    other = read_reported_run([options.against]) if options.against else None
    for folder, names in mine.lost().items():
        again = "the command that wrote them generates them again"
        print(f"{lost_images_message(folder, names)}; {again}", file=sys.stderr)
    for folder, number in mine.stray.items():
        print(
            f"labels or judgements of images that {printable(folder)} does not have, left out: {number}",
            file=sys.stderr,
        )
    calibrated_by = read_reported_run([options.calibration]) if options.calibration else None
    sections = findings(mine, other, baseline=options.baseline, calibrated_by=calibrated_by)
    if options.parquet:
        write_parquet(mine, options.parquet)
    if options.out:
        print(f"written: {printable(_write(mine, sections, options.out, options.images))}", file=sys.stderr)
    if options.json:
        print(json.dumps(as_json(sections), allow_nan=False))
    else:
        for section in sections:
            print(printable(f"{section.suite} on {section.backbone}"), end="\n\n")
            first, *others = tables(section)
            for table in (first, *others) if options.all else (first,):
                print(as_text(table, shutil.get_terminal_size().columns))
            for line in quality_warnings(section) if not options.all else ():
                print(fill(printable(line), shutil.get_terminal_size().columns))
            if others and not options.all:
                more = f"{len(others)} more tables: --all; as a page with images: --out report.html"
                print(fill(more, shutil.get_terminal_size().columns))
    return 0


def _write(mine: ReportedRun, sections: list[Section], out: Path, max_images: int) -> Path:
    """Write the page, and the plots where `out` is a folder, and return the page's path."""
    if find_spec("matplotlib") is None:
        raise ValueError("plots need matplotlib: pip install 'countgen[report]'")
    from countgen.benchmarks.evaluation.plots import rendered
    from countgen.benchmarks.evaluation.report.page import page, plots

    single = out.suffix.lower() in (".html", ".htm")
    file = out if single else out / "report.html"
    folders = set(mine.folders.values())
    output_path(file, folders).parent.mkdir(parents=True, exist_ok=True)
    figures = plots(mine, sections)
    if not single:
        for name, figure in figures.items():
            for suffix in (".svg", ".png"):
                write_atomically(rendered(figure, suffix), output_path(out / f"{name}{suffix}", folders))
    write_atomically(page(mine, sections, figures, max_images).encode(errors="replace"), output_path(file, folders))
    return file
