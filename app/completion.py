"""`countgen completion`: print the script with which a shell completes the command."""

from __future__ import annotations

import argparse
from typing import Any

from countgen.app.exit_codes import OK

SHELLS = ("bash", "zsh", "fish")
_EPILOG = """\
for example:
  bash  countgen completion bash > ~/.local/share/bash-completion/completions/countgen
  zsh   countgen completion zsh > "${fpath[1]}/_countgen"
  fish  countgen completion fish > ~/.config/fish/completions/countgen.fish
"""


def add_parser(commands: Any, root: argparse.ArgumentParser) -> None:
    """Add the command to the sub-parsers.

    Args:
        commands: the sub-parsers.
        root: the parser of all commands, which is completed.
    """
    parser = commands.add_parser(
        "completion",
        help="print a shell's completion",
        description="Print the script that completes this command in a shell.",
        epilog=_EPILOG,
    )
    parser.set_defaults(run=run, root=root)
    parser.add_argument("shell", choices=SHELLS, help="the shell")


def run(options: argparse.Namespace) -> int:
    """Print the script."""
    import shtab

    print(shtab.complete(options.root, shell=options.shell))
    return OK
