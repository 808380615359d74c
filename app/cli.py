"""The `countgen` command: its parser, its exit codes, and what every sub-command shares.

Nothing heavy is imported here; each command imports what it needs when it runs, so `--help` is immediate.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import signal
import sys
import textwrap
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

from countgen import __version__
from countgen.app import (
    calibrate,
    compare,
    completion,
    count,
    demo,
    doctor,
    edit,
    evaluate,
    generate,
    label,
    learn_token,
    report,
    reproduce,
    tokens,
)
from countgen.app.exit_codes import BAD_INPUT, BROKEN_PIPE, INTERRUPTED, OK
from countgen.errors import CountGenError
from countgen.files.printable import printable

_COMMANDS = (
    *(generate, edit, count, learn_token, tokens, calibrate, reproduce),
    *(evaluate, label, report, compare, demo, doctor),
)
_EXIT_CODES = """\
exit codes:
  0    done, and the judge agrees with every count
  1    a count was not reached (the best image is written), or a check failed
  2    bad input
  130  interrupted (the best image so far is written)
"""

_INVALID_CHOICE = re.compile(r"invalid choice: '([^']{1,60})' \(choose from (.*)\)", re.DOTALL)
ELSEWHERE = {
    **dict.fromkeys(("cfg", "cfg-scale", "guidance"), "--guidance-scale"),
    "steps": "--num-inference-steps",
    **dict.fromkeys(("w", "h", "width", "height", "resolution"), "--size"),
    **dict.fromkeys(("n", "n-iter", "batch-size", "batch-count", "num-images", "num-images-per-prompt"), "--images"),
    **dict.fromkeys(("sampler", "sampler-name", "sampling-method"), "--scheduler"),
    **dict.fromkeys(("ckpt", "checkpoint", "pretrained-model-name-or-path"), "--model"),
    **dict.fromkeys(("o", "output", "outdir", "output-dir", "save-dir"), "--out"),
    **dict.fromkeys(("neg", "negative"), "--negative-prompt"),
    **dict.fromkeys(("model", "weights", "detector"), "--critic"),  # where there is no --model
}
"""Options of other programs that generate images or detect objects, without hyphens in front, and their names here."""

_NO_MEMORY = re.compile(r"MemoryError|[Oo]ut of memory|can't allocate memory|not enough memory")
"""Torch raises a RuntimeError where a processor's memory ends, with no class of its own."""


class Lines(argparse.HelpFormatter):
    """Help that keeps the line breaks of its texts, and breaks them again where the terminal is narrower."""

    def add_argument(self, action: argparse.Action) -> None:
        """Make room for an argument; argparse forgets that commands stand further in."""
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):
            self._action_max_length += self._indent_increment

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        filled = []
        for line in text.splitlines():
            # A word and two spaces begin the row of a table, whose second column stays one.
            first = re.match(r" *\S+  +", line)
            hang = indent + " " * (first.end() if first else 0)
            wrapped = textwrap.wrap(line, width, subsequent_indent=hang, break_long_words=False, break_on_hyphens=False)
            filled += [indent + wrapped[0], *wrapped[1:]] if wrapped else [""]
        return "\n".join(filled)


class Parser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one line; those of the commands are made from it too."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": Lines, "allow_abbrev": False, **options})

    def parse_known_args(  # type: ignore[override]  # the overloads of argparse say the same of any namespace
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse, and refuse here what is not known: the parser of all commands does not know a command's options."""
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._near(unknown)}")
        return namespace, unknown

    def _near(self, unknown: Sequence[str]) -> str:
        """Return what to write instead, such as the option that is nearest to the first unknown one."""
        if "--prompt" in unknown:
            return "; the prompt stands by itself, without an option"
        options = self._option_string_actions.items()
        known = [name for name, action in options if action.help != argparse.SUPPRESS and name != "--help"]
        for option in (word.partition("=")[0] for word in unknown if word.startswith("-")):
            elsewhere = ELSEWHERE.get(option.lstrip("-").lower().replace("_", "-"))
            near = [elsewhere] if elsewhere in known else difflib.get_close_matches(option, known, n=1, cutoff=0.6)
            return f"; did you mean {near[0]}?" if near else ""
        return "; put quotes around text with spaces"

    def error(self, message: str) -> NoReturn:
        choice = _INVALID_CHOICE.search(message)
        if choice and " " in choice[1] and message.startswith("argument COMMAND"):
            message = f"no command {choice[1]!r}; did you mean countgen generate {choice[1]!r}?"
        elif choice:
            near = difflib.get_close_matches(choice[1], re.findall(r"[\w.+-]+", choice[2]), n=1, cutoff=0.6)
            message += f"; did you mean {near[0]}?" if near else ""
        self.exit(BAD_INPUT, f"{self.prog}: error: {printable(message, 900)} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; imports nothing heavy."""
    parser = Parser(
        prog="countgen",
        description="Generate images with the number of objects the prompt asks for.",
        epilog=_EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"countgen {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    for module in _COMMANDS:
        module.add_parser(commands)
    completion.add_parser(commands, parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: without the program's name; those of the process by default.
    """
    # Before torch is imported. Threads that spin while they wait take the cores from those they wait for as soon as
    # another process computes, see docs/decisions.md.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return OK
    try:
        with _termination_interrupts():
            code: int = options.run(options)
            sys.stdout.flush()
        return code
    except BrokenPipeError:
        # What is left in the buffer would fail again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        print("countgen: interrupted", file=sys.stderr)
        return INTERRUPTED
    except (MemoryError, RuntimeError) as error:
        if options.traceback or not _NO_MEMORY.search(repr(error)):
            raise
        advice = "; a smaller --size or --memory low may do" if hasattr(options, "memory") else ""
        print(f"countgen: error: there is not enough memory{advice}", file=sys.stderr)
        return BAD_INPUT
    # Bad input is a ValueError throughout, missing or unwritable files are OSErrors; anything else is a fault
    # of ours and keeps its traceback.
    except (CountGenError, ValueError, OSError) as error:
        if options.traceback:
            raise
        print(f"countgen: error: {printable(' '.join(_message(error).split()))}", file=sys.stderr)
        return BAD_INPUT


@contextmanager
def _termination_interrupts() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does at that moment: the best so far is kept."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread has signals
        yield
        return

    def interrupt(_: int, frame: FrameType | None) -> None:
        handler = signal.getsignal(signal.SIGINT)
        if not callable(handler):  # a shell's background job ignores Ctrl-C, which is not meant for it; this signal is
            raise KeyboardInterrupt
        handler(signal.SIGINT, frame)

    usual = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, usual)


def _message(error: Exception) -> str:
    """An error's message; the system's without its number."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
