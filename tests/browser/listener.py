"""A local web server that the demo must not call, and dictionaries that make Gradio call it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import gradio.processing_utils


class Listener(ThreadingHTTPServer):
    """Record the path of every request; `/again` redirects to another path."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Keeper)
        self.called: list[str] = []
        self.address = f"http://127.0.0.1:{self.server_port}"


class _Keeper(BaseHTTPRequestHandler):
    server: Listener

    def do_GET(self) -> None:
        self.server.called.append(self.path)
        self.send_response(302 if self.path == "/again" else 200)
        self.send_header("Location", "/followed")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def listening() -> Iterator[Listener]:
    """Run a listener whose addresses Gradio treats as public; it refuses loopback addresses otherwise."""
    public = gradio.processing_utils.PUBLIC_HOSTNAME_WHITELIST
    added = ["127.0.0.1", "localhost", "::1"]
    public.extend(added)
    listener = Listener()
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    try:
        yield listener
    finally:
        listener.shutdown()
        listener.server_close()
        del public[-len(added) :]


def files(address: str, somewhere: str) -> list[object]:
    """Return values that contain a file by URL or path, in many forms and at many depths."""
    port = address.rpartition(":")[2]
    meta = {"_type": "gradio.FileData"}
    addresses = [f"{address}/a.png", f"{address}/again", f"http://localhost:{port}/b", f"http://[::1]:{port}/c"]
    addresses += [f"http://user:word@127.0.0.1:{port}/d", f"HTTP://127.0.0.1:{port}/e"]
    addresses += ["file:///etc/passwd", "data:image/png;base64,AAAA", "/etc/passwd", somewhere]
    values: list[object] = []
    for place in addresses:
        marked = {"path": place, "meta": meta}
        values += [
            marked,
            {"path": "x", "url": place, "meta": meta},
            {"path": place, "url": place, "orig_name": "a.png", "mime_type": "image/png", "size": 1, "meta": meta},
            {"path": place},
            {"path": place, "url": place},
            {"url": place},
            {"path": place, "meta": {"_type": "gradio.filedata"}},
            {"path": place, "meta": None},
            {"path": place, "meta": "gradio.FileData"},
            {"path": place, "is_stream": True, "meta": meta},
            [marked],
            [[marked]],
            {"value": marked},
            [{"image": marked, "caption": None}],
            {"composite": marked, "layers": [marked], "background": None},
            {"video": marked, "subtitles": None},
            {"text": "one apple", "files": [marked]},
            {"a": [{"b": [{"c": [marked]}]}]},
            ["one apple", [marked]],
            {"__type__": "update", "value": marked},
        ]
    return values
