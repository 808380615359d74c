"""`countgen demo`: a page in the browser that draws, learns, compares and lets people count."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from app.exit_codes import OK

LOOPBACK = "127.0.0.1"


def add_parser(commands: Any) -> None:
    """Add the command to the sub-parsers."""
    parser = commands.add_parser(
        "demo",
        help="open the page in a browser",
        description="Serve a page that draws counted pictures, learns count tokens, shows benchmark runs and lets "
        "people count. Only this machine can reach it unless --host says otherwise.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.add_argument("--host", default=LOOPBACK, metavar="ADDRESS", help="the address to listen on (%(default)s)")
    parser.add_argument("--port", type=_port, metavar="N", help="the port (the first free one from 7860)")
    parser.add_argument("--auth", type=_user_and_password, metavar="USER:PASSWORD", help="ask visitors to log in")
    parser.add_argument("--share", action="store_true", help="a public link through Gradio's servers; needs --auth")
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help="a folder of benchmark runs to show and to label")
    parser.add_argument(
        "--backbone", action="append", metavar="NAME", help="a model to offer; repeatable (the embedded ones)"
    )
    parser.add_argument(
        "--critic", action="append", metavar="NAME", help="a detector that steers; repeatable (the backbone's own)"
    )
    parser.add_argument("--judge", metavar="NAME", help="a detector that only counts at the end (the backbone's own)")


def run(options: argparse.Namespace) -> int:
    """Serve the page until interrupted.

    Raises:
        ValueError: bad options, an unknown backbone, or no Gradio.
    """
    if options.share and not options.auth:
        raise ValueError("--share opens the page to the world: give --auth USER:PASSWORD with it")
    if options.runs is not None and not options.runs.is_dir():
        raise ValueError(f"--runs: no folder {options.runs}")
    from app.demo.limits import Limits
    from countgen.backbones.registry import find

    for name in options.backbone or ():
        find(name)
        if not name.startswith("miniature") and not (options.critic and options.judge):
            raise ValueError(f"{name} comes without detectors: give --critic and --judge, of different architectures")
    limits = Limits(backbones=tuple(options.backbone)) if options.backbone else Limits()
    try:
        from app.demo.page import serve
        from app.demo.shelf import Shelf
    except ModuleNotFoundError as error:
        raise ValueError(f'the page needs {error.name}: pip install "countgen[demo]"') from error
    shelf = Shelf(critics=tuple(options.critic) if options.critic else None, judge=options.judge)
    serve(limits, options.runs, shelf, host=options.host, port=options.port, auth=options.auth, share=options.share)
    return OK


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is no port from 1 to 65535")
    return int(text)


def _user_and_password(text: str) -> tuple[str, str]:
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise argparse.ArgumentTypeError("write USER:PASSWORD, neither of them empty")
    return user, password
