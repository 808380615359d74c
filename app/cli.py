"""The `countgen` command: its parser, its exit codes, and what every sub-command shares.

Nothing heavy is imported here; each command imports what it needs when it runs, so `--help` is immediate.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from app import doctor, generate
from app.exit_codes import BAD_INPUT, INTERRUPTED
from countgen import __version__
from countgen.errors import CountGenError

_COMMANDS = (generate, doctor)
_EXIT_CODES = """\
exit codes:
  0    done, and the judge agrees with every count
  1    a count was not reached (the best picture is written), or a check failed
  2    bad input
  130  interrupted (the best picture so far is written)
"""


class Parser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; imports nothing heavy."""
    parser = Parser(
        prog="countgen",
        description="Draw pictures with the number of objects the prompt asks for.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"countgen {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    for module in _COMMANDS:
        module.add_parser(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: without the program's name; those of the process by default.
    """
    options = build_parser().parse_args(arguments)
    try:
        code: int = options.run(options)
        return code
    except KeyboardInterrupt:
        print("countgen: interrupted", file=sys.stderr)
        return INTERRUPTED
    # Bad input is a ValueError throughout, missing or unwritable files are OSErrors; anything else is a fault
    # of ours and keeps its traceback.
    except (CountGenError, ValueError, OSError) as error:
        if options.traceback:
            raise
        print(f"countgen: error: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
