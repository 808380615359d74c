"""A server of this machine that must not be called, or must be."""

from __future__ import annotations

import socket
import threading


class Listener:
    """Notes the first bytes of every call, and answers none; a context manager that gives its address and the calls."""

    def __enter__(self) -> tuple[str, list[bytes]]:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._calls: list[bytes] = []
        threading.Thread(target=self._serve, daemon=True).start()
        return f"http://127.0.0.1:{self._server.getsockname()[1]}", self._calls

    def _serve(self) -> None:
        try:
            while True:
                caller, _ = self._server.accept()
                self._calls.append(caller.recv(100))
                caller.close()
        except OSError:
            return

    def __exit__(self, *_: object) -> None:
        self._server.close()
