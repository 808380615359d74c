"""Report on a run: `python -m countgen.benchmarks.evaluation.report RUN [--against RUN] [--out PATH]`."""

from __future__ import annotations

from collections.abc import Sequence

from countgen.benchmarks.evaluation.as_module import run_module
from countgen.benchmarks.evaluation.report.command import add_arguments, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    return run_module("countgen.benchmarks.evaluation.report", __doc__, add_arguments, run, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
