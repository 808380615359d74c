"""`countgen report`: what an evaluation found, as tables, plots and one page."""

from __future__ import annotations

from typing import Any

from benchmarks.evaluation.report.command import add_arguments, run


def add_parser(commands: Any) -> None:
    """Add the command to the sub-parsers."""
    parser = commands.add_parser(
        "report",
        help="report on an evaluation",
        description="Report on an evaluation: accuracy by count, costs, comparisons, agreement of judges and people. "
        "Prints tables; --out writes one self-contained page.",
    )
    parser.set_defaults(run=run)
    add_arguments(parser)
