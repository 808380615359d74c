"""What the modules that are run with `python -m` share: one line for bad input, and exit codes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from countgen.printable import printable

BAD_INPUT = 2
INTERRUPTED = 130


def run_module(
    module: str,
    description: str | None,
    add_arguments: Callable[[argparse.ArgumentParser], None],
    run: Callable[[argparse.Namespace], int],
    arguments: Sequence[str] | None = None,
) -> int:
    """Parse the command line and run; bad input is one line and exit code 2, Ctrl-C is 130.

    Args:
        module: that is run, as `python -m` knows it.
        description: its docstring.
        add_arguments, run: what can be asked for, and what is done then.
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
        parser.exit(INTERRUPTED, f"{parser.prog}: interrupted; the same command goes on\n")
