"""`countgen report`: the results of an evaluation as tables, plots and one HTML page."""

from __future__ import annotations

from typing import Any

from countgen.benchmarks.evaluation.report.command import add_arguments, run


def add_parser(commands: Any) -> None:
    """Add the command to the sub-parsers."""
    parser = commands.add_parser(
        "report",
        help="report on an evaluation",
        description="Report on an evaluation: accuracy by count, cost, comparison of methods, agreement of judges and "
        "people. Prints tables; --out writes one self-contained HTML page.",
    )
    parser.set_defaults(run=run)
    add_arguments(parser)
