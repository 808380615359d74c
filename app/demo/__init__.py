"""`countgen demo`: a web page to generate images, change their counts, count objects and use tokens."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Any

from countgen.files.printable import printable

LOOPBACKS = ("127.0.0.1", "::1", "localhost")
AUTH_VARIABLE = "COUNTGEN_DEMO_AUTH"
"""Every user of the machine can read the command line of a process, but not its environment."""
_PASSWORD = f"give a password in {AUTH_VARIABLE}, or --auth USER:PASSWORD"


def serve(
    *,
    models: Sequence[str] = (),
    host: str = LOOPBACKS[0],
    port: int | None = None,
    auth: tuple[str, str] | None = None,
    share: bool = False,
    critics: Sequence[str] | None = None,
    judge: str | None = None,
    **loading: Any,
) -> None:
    """Serve the page until interrupted.

    Args:
        models: names, hub ids, folders or files that visitors may choose; the embedded ones by default.
        host: address to listen on; any but the loopback's needs a password.
        port: the first free one from 7860 by default.
        auth: user and password; by default those of the variable COUNTGEN_DEMO_AUTH, if it is set.
        share: create a public link through Gradio's servers.
        critics, judge: detectors, as `countgen.load` takes them; the models' own by default.
        loading: further arguments of `countgen.load`.

    Raises:
        ValueError: no password though other machines can reach the page, an unknown backbone or detector, an address
            that cannot be used, or Gradio is not installed.
    """
    auth = auth or _auth_from_environment()
    if share and not auth:
        raise ValueError(f"--share makes the page public: {_PASSWORD}")
    if host not in LOOPBACKS and not auth:
        raise ValueError(f"--host {printable(host, 60)!r} opens the page to other machines: {_PASSWORD}")
    check_address(host, port)

    from countgen.backbones.sources import find_source
    from countgen.detector_choice import AUTO, choose
    from countgen.models import check_detectors

    for name in models:
        check_detectors(choose(find_source(name).name, (), critics, judge or AUTO).names)
    detectors = [*(critics or ()), *([judge] if judge else [])]
    check_detectors(detectors)
    try:
        from countgen.app.demo.limits import Limits
        from countgen.app.demo.page import build, launch
        from countgen.app.demo.worker import Worker
    except ModuleNotFoundError as error:
        raise ValueError(f'the page needs {error.name}: pip install "countgen[demo]"') from error
    limits = Limits(backbones=tuple(models)) if models else Limits()
    worker = Worker(limits, critics=critics, judge=judge or AUTO, **loading)
    if detectors:  # missing weights are reported before the page is served
        worker.load(limits.backbones[0])
    page = build(limits, worker)
    url = launch(page, host=host, port=port, auth=auth, share=share)
    print(f"the demo is at {page.share_url or url} (Ctrl-C ends it)", flush=True)
    worker.warm_up(limits.backbones[0])
    page.block_thread()


def check_address(host: str, port: int | None) -> None:
    """Refuse an address of another machine and a port in use; Gradio would try a hundred other ports.

    Raises:
        ValueError: the server cannot listen on the address.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError as error:
        where = f"{host}, port {port}" if port else host
        raise ValueError(f"cannot listen on {where}: {error.strerror}; give another --host or --port") from error


def user_and_password(text: str) -> tuple[str, str]:
    """Return the parts of "USER:PASSWORD".

    Raises:
        ValueError: another form.
    """
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise ValueError("write USER:PASSWORD, neither of them empty")
    return user, password


def _auth_from_environment() -> tuple[str, str] | None:
    text = os.environ.get(AUTH_VARIABLE)
    try:
        return user_and_password(text) if text else None
    except ValueError as error:
        raise ValueError(f"{AUTH_VARIABLE}: {error}") from error
