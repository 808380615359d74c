"""`countgen demo`: a web page to generate images, change their counts, count objects and use tokens."""

from __future__ import annotations

import os
import socket

from countgen.app.arguments import Demo
from countgen.app.exit_codes import OK
from countgen.app.options import LOOPBACK
from countgen.backbones.sources import find_source
from countgen.detector_choice import AUTO, choose
from countgen.files.printable import printable
from countgen.models import check_detectors

LOOPBACKS = (LOOPBACK, "::1", "localhost")
AUTH_VARIABLE = "COUNTGEN_DEMO_AUTH"
"""Every user of the machine can read the command line of a process, but not its environment."""
_PASSWORD = f"give a password in {AUTH_VARIABLE}, or --auth USER:PASSWORD"


def run(command: Demo) -> int:
    """Serve the page until interrupted."""
    given = (os.environ.get(AUTH_VARIABLE) or None) if command.auth is None else command.auth
    auth = None if given is None else user_and_password(given)
    if command.share and not auth:
        raise ValueError(f"--share makes the page public: {_PASSWORD}")
    if command.host not in LOOPBACKS and not auth:
        raise ValueError(f"--host {printable(command.host, 60)!r} opens the page to other machines: {_PASSWORD}")
    check_address(command.host, command.port)
    for name in command.model or ("miniature",):
        check_detectors(choose(find_source(name).name, (), command.critic, command.judge or AUTO).names)
    try:
        from countgen.app.demo.page import serve
    except ModuleNotFoundError as error:
        raise ValueError(f'the page needs {error.name}: pip install "countgen[demo]"') from error
    serve(command, auth)
    return OK


def check_address(host: str, port: int | None) -> None:
    """Raise if the host is not local or the port is taken; Gradio would try a hundred other ports."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError as error:
        where = f"{host}, port {port}" if port else host
        raise ValueError(f"cannot listen on {where}: {error.strerror}; give another --host or --port") from error


def user_and_password(text: str) -> tuple[str, str]:
    """Return the parts of "USER:PASSWORD"."""
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise ValueError(f"--auth and {AUTH_VARIABLE} are USER:PASSWORD, neither of them empty")
    return user, password
