"""A server of this machine that must not be called, or must be."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def calls_heard() -> Iterator[tuple[str, list[bytes]]]:
    """Yield the address of a server that answers nothing, and the first bytes of every call."""
    calls: list[bytes] = []

    class Call(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            calls.append(self.request.recv(100))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Call) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", calls
        server.shutdown()
