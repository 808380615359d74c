"""The commands by name; the module of a command is imported when it is run, completed or explained."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from countgen import __version__
from countgen.app.exit_codes import BAD_INPUT, INTERRUPTED
from countgen.files.printable import printable

if TYPE_CHECKING:
    from countgen.app.options import Command

COMMANDS = {
    "generate": ("arguments:Generate", "generate images"),
    "edit": ("arguments:Edit", "change the count of an image"),
    "count": ("arguments:Count", "count objects in images"),
    "dataset": ("arguments:Dataset", "generate annotated images"),
    "tokens list": ("arguments:Tokens", "list the shipped count tokens"),
    "tokens learn": ("learn:Learn", "train a count token"),
    "calibrate": ("calibrate:Calibrate", "fit number axis and P(right) to a model"),
    "reproduce": ("arguments:Reproduce", "generate an image again"),
    "eval": ("arguments:Evaluate", "compare methods on many prompts"),
    "report": ("arguments:Report", "report on an evaluation, or compare two"),
    "label": ("arguments:Label", "label the images of an evaluation by hand"),
    "demo": ("arguments:Demo", "serve a web page"),
    "serve": ("arguments:Serve", "serve OpenAI's images interface"),
    "doctor": ("arguments:Doctor", "check the installation, or a judge"),
}
"""Class and one line of help of each command."""

EXIT_CODES = (
    "Exit codes: 0, done, and the judge agrees with every count; 1, a count was not reached (the best image is "
    "written), or a check failed; 2, bad input; 130, interrupted (the best image so far is written)."
)

ELSEWHERE = {
    **dict.fromkeys(("cfg", "cfg-scale", "guidance"), "--guidance-scale"),
    "steps": "--num-inference-steps",
    **dict.fromkeys(("w", "h", "width", "height", "resolution"), "--size"),
    **dict.fromkeys(("n", "n-iter", "batch-size", "batch-count", "num-images", "num-images-per-prompt"), "--images"),
    **dict.fromkeys(("sampler", "sampler-name", "sampling-method"), "--scheduler"),
    **dict.fromkeys(("ckpt", "checkpoint", "pretrained-model-name-or-path"), "--model"),
    **dict.fromkeys(("o", "output", "outdir", "output-dir", "save-dir"), "--out"),
    **dict.fromkeys(("neg", "negative"), "--negative-prompt"),
    **dict.fromkeys(("model", "weights", "detector"), "--critic"),  # of commands without --model
}
"""Options of other programs that generate images or detect objects, without hyphens in front, and their names here."""


class LazyGroup(TyperGroup):
    """Commands of which only the one that is asked for is imported."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        plain = not args or (args[0].startswith("-") and args[0] != "--help")
        if self.name == "tokens" and plain and not ctx.resilient_parsing:
            args = ["list", *args]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        path = " ".join([*ctx.command_path.split()[1:], str(name)])
        return name, command_of(path) if path in COMMANDS else command, rest


def command_of(path: str) -> Any:
    """Return the command of a name, such as "tokens learn", with all of its options."""
    target, summary = COMMANDS[path]
    module, _, name = target.partition(":")
    parsed = getattr(import_module(f"countgen.app.{module}"), name)
    app = typer.Typer(add_completion=False)
    # Python -OO drops docstrings, and dataclasses make one of the signature instead.
    app.command(path, help=summary if sys.flags.optimize > 1 else parsed.__doc__)(parsed)
    command: Any = typer.main.get_command(app)
    owners = {field: base for base in parsed.__mro__[1:] for field in vars(base).get("__annotations__", ())}
    for parameter in command.params:
        if parameter.name in owners:
            parameter.rich_help_panel = owners[parameter.name].panel
    return command


def root() -> Any:
    """Return the command of all commands."""
    options: dict[str, Any] = {"cls": LazyGroup, "no_args_is_help": False, "subcommand_metavar": "COMMAND"}
    app = typer.Typer(**options, epilog=EXIT_CODES, result_callback=lambda command, **_: command)
    groups = {"": app, "tokens": typer.Typer(**options, add_completion=False)}
    app.callback(help="Generate images with the number of objects the prompt asks for.")(_root_options)
    for path, (_, summary) in COMMANDS.items():
        group, _, name = path.rpartition(" ")
        groups[group].command(name, help=summary)(lambda: None)
    app.add_typer(groups["tokens"], name="tokens", help="list the shipped count tokens, or train one")
    return typer.main.get_command(app)


def _print_version(value: bool) -> None:
    if value:
        print(f"countgen {__version__}")
        raise typer.Exit


def _root_options(
    version: bool = typer.Option(False, "--version", callback=_print_version, help="print the version and exit"),
    traceback: bool = typer.Option(False, "--traceback", help="show where an error came from"),
) -> None:
    pass


def parse(arguments: Sequence[str]) -> Command | int:
    """Return the command of a command line, ready to be run; an exit code if it is help, or wrong, which is printed."""
    try:
        parsed: Command | int = root().main(list(arguments) or ["--help"], prog_name="countgen", standalone_mode=False)
    except (typer.TyperException, typer.Abort) as error:
        context = getattr(error, "ctx", None)
        program = context.command_path if context else "countgen"
        print(f"{program}: error: {_reason(error)} (see {program} --help)", file=sys.stderr)
        return BAD_INPUT
    if parsed == INTERRUPTED:
        raise KeyboardInterrupt
    return parsed


def _reason(error: Any) -> str:
    """Return what is wrong with a command line, and what to write instead."""
    message = " ".join(error.format_message().replace("Value error, ", "").split())
    option = getattr(error, "option_name", "").lstrip("-").lower().replace("_", "-")
    near = ELSEWHERE.get(option)
    if option == "prompt":
        message = "No such option: --prompt; the prompt stands by itself, without an option"
    elif near and any(near in parameter.opts for parameter in error.ctx.command.params):
        message = f"No such option: --{option}; did you mean {near}?"
    elif message.startswith("Got unexpected extra"):
        message += "; put quotes around text with spaces"
    elif (prompt := re.fullmatch(r"No such command '(.* .*)'\.", message)) is not None:
        message += f" Did you mean countgen generate '{prompt[1]}'?"
    return printable(message, 900)
