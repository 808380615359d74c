"""Report on a run: `python -m benchmarks.report RUN [--against RUN] [--out PATH]`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from benchmarks.report.command import add_arguments, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    add_arguments(parser)
    options = parser.parse_args(arguments)
    try:
        return run(options)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")


if __name__ == "__main__":
    raise SystemExit(main())
