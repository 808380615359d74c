"""`countgen serve`: the OpenAI images interface in front of a model, with images whose counts are checked."""

from __future__ import annotations

import os
import re
from contextlib import suppress

from countgen.app.arguments import Serve
from countgen.app.demo import LOOPBACKS, check_address
from countgen.app.exit_codes import OK
from countgen.files.printable import printable

KEY_VARIABLE = "COUNTGEN_SERVE_KEY"
"""One key for each client, with commas. Every user of a machine can read command lines, but not environments."""


def run(command: Serve) -> int:
    """Serve until interrupted."""
    keys = tuple(filter(None, os.environ.get(KEY_VARIABLE, "").split(",")))
    if not all(re.fullmatch("[!-~]{8,}", key) for key in keys):
        raise ValueError(f"{KEY_VARIABLE} holds keys of at least 8 characters without spaces, separated by commas")
    if command.host not in LOOPBACKS and not keys:
        raise ValueError(
            f"--host {printable(command.host, 60)!r} opens the server to other machines: give a key in {KEY_VARIABLE}"
        )
    check_address(command.host, command.port)
    try:
        import uvicorn

        from countgen.app.serve.application import application
        from countgen.app.serve.gateway import Gateway
    except ModuleNotFoundError as error:
        raise ValueError(f'the server needs {error.name}: pip install "countgen[serve]"') from error
    gateway = Gateway(command.load((), **command.detector_options), command)
    app = application(gateway, keys, frozenset((*LOOPBACKS, "[::1]")) if command.host in LOOPBACKS else None)
    config = uvicorn.Config(
        app,
        host=command.host,
        port=command.port,
        http="h11",  # which bounds the headers
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(command.max_seconds) + 5,
    )
    print(f"serving {gateway.name} at http://{command.host}:{command.port}/v1 (Ctrl-C ends it)", flush=True)
    with suppress(KeyboardInterrupt):  # after the images in progress
        uvicorn.Server(config).run()
    return OK
