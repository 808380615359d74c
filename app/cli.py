"""The `countgen` command: exit codes and error messages. Commands are in `countgen.app.commands`.

Little is imported here, so that an interruption or a failure while libraries are imported is one line too.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence

from countgen.app.exit_codes import BAD_INPUT, BROKEN_PIPE, INTERRUPTED
from countgen.errors import CountGenError
from countgen.files.printable import printable

_NO_MEMORY = re.compile(r"MemoryError|[Oo]ut of memory|can't allocate memory|not enough memory")
"""Torch raises a RuntimeError without a class of its own if the memory of a CPU is exhausted."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, by default that of the process, and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    # Before torch is imported. Threads that spin while they wait take the cores from those they wait for as soon as
    # another process computes, see docs/decisions.md.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed; a file that is opened later would take its place
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    try:
        from countgen.app.commands import parse
        from countgen.app.interrupts import termination_as_interrupt

        with termination_as_interrupt():
            command = parse(arguments)
            code = command if isinstance(command, int) else command.run()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # What is left in the buffer would fail again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        print("countgen: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        message = _message(error)
        if message is None or "--traceback" in arguments:
            raise
        print(f"countgen: error: {message}", file=sys.stderr)
        return BAD_INPUT


def _message(error: Exception) -> str | None:
    """Return the message for the user; None for a fault of ours, which keeps its traceback."""
    causes = [error]
    while cause := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)  # type: ignore[arg-type]
    if warning := next((cause for cause in causes if isinstance(cause, Warning)), None):
        return f"Python was told to treat warnings as errors, and a library warns: {printable(warning, 300)}"
    if isinstance(error, MemoryError | RuntimeError) and _NO_MEMORY.search(repr(error)):
        return "there is not enough memory; a smaller --size or --memory low may do, if the command has them"
    if isinstance(error, OSError) and error.strerror:  # the system's message without its number
        return printable(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    # Bad input is a ValueError throughout.
    if isinstance(error, CountGenError | ValueError | OSError | ImportError):
        return printable(" ".join(str(error).split()))
    return None


if __name__ == "__main__":
    sys.exit(main())
