"""Files by address or path that a call of the demo may name, and a server that the demo must not call for them."""

from collections.abc import Iterator
from contextlib import contextmanager

import gradio.processing_utils

from tests.faults.listener import calls_heard


@contextmanager
def listening() -> Iterator[tuple[str, list[bytes]]]:
    """Yield the address and the calls of a listener that Gradio treats as public; it refuses the loopback's."""
    public = gradio.processing_utils.PUBLIC_HOSTNAME_WHITELIST
    added = ["127.0.0.1", "localhost", "::1"]
    public.extend(added)
    try:
        with calls_heard() as listener:
            yield listener
    finally:
        del public[-len(added) :]


def files(address: str, somewhere: str) -> list[object]:
    """Return values that contain a file by URL or path, in many forms and at many depths."""
    port = address.rpartition(":")[2]
    meta = {"_type": "gradio.FileData"}
    places = [f"{address}/a.png", f"http://localhost:{port}/b", f"HTTP://user:word@127.0.0.1:{port}/c"]
    places += ["file:///etc/passwd", "data:image/png;base64,AAAA", "/etc/passwd", somewhere]
    values: list[object] = []
    for place in places:
        marked = {"path": place, "meta": meta}
        values += [
            marked,
            {"path": "x", "url": place, "meta": meta},
            {"path": place, "url": place, "orig_name": "a.png", "mime_type": "image/png", "size": 1, "meta": meta},
            {"path": place},
            {"url": place},
            {"path": place, "meta": {"_type": "gradio.filedata"}},
            {"path": place, "meta": None},
            {"path": place, "is_stream": True, "meta": meta},
            [[marked]],
            {"composite": marked, "layers": [marked], "background": None},
            {"a": [{"b": [{"c": [marked]}]}]},
            ["one apple", [marked]],
            {"__type__": "update", "value": marked},
        ]
    return values
