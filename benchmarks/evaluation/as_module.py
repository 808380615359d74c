"""Shared entry point of modules that run with `python -m`: one line for bad input, and exit codes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from countgen.files.printable import printable

BAD_INPUT = 2
INTERRUPTED = 130


def run_module(
    module: str,
    description: str | None,
    add_arguments: Callable[[argparse.ArgumentParser], None],
    run: Callable[[argparse.Namespace], int],
    arguments: Sequence[str] | None = None,
) -> int:
    """Parse the command line and run: bad input gives one line and exit code 2, Ctrl-C gives 130.

    Args:
        module: name for `python -m`.
        description: its docstring.
        add_arguments: adds the options to a parser.
        run: takes the parsed options and returns the exit code.
        arguments: without the program's name; those of the process by default.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    options = parser.parse_args(arguments)
    try:
        return run(options)
    except (ValueError, OSError) as error:
        parser.exit(BAD_INPUT, f"{parser.prog}: error: {printable(error)}\n")
    except KeyboardInterrupt:
        parser.exit(INTERRUPTED, f"{parser.prog}: interrupted; the same command continues\n")
