"""Hypothesis strategies of damaged and hostile content, and what no file may cause."""

from __future__ import annotations

import copy
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import strategies as st

LONGEST_MESSAGE = 1000
EVIL = "__import__('os').mkdir('/tmp/countgen-was-here')"
ODD_VALUES = st.sampled_from(
    [
        *(None, True, False, -1, 0, 1, 7, 2**31, 2**53, 2**63, 10**25, 10**400),
        *(0.5, -0.0, 1e308, float("inf"), float("nan")),
        *("", " ", "7", "٣", "\ud800", "\u202e", "\0", "\x1b[2J\n", "../../etc/passwd", "/etc/passwd", "x" * 5000),
        *("http://127.0.0.1:9/x", "refs/pr/1", "<b onclick=x>", EVIL, "torch", "nn.Module", "TorchVision", "nc"),
        *([], {}, [[]], [1, [2, [3]]], [[1, 2, 3, 4]], {"a": {"b": 1}}, {"apple": -1}, {"": 1}, [None] * 50),
    ]
).map(copy.deepcopy)
WORDS = st.lists(
    st.sampled_from(
        (
            "a an the one two seven twelve dozen half baker's couple pair score hundred thousand million no zero and "
            "or of with without on not about over minus plus times point squared percent than more apple apples cat "
            "cats red 3d 4k photo another sheep scissors - – — ~ / ( ) , ; : . ! ? & + % $ # < > ≥ √ ± × ½ ² ⑦ Ⅶ ٣ "
            "1e3 2x4 3.5 -3 1,000 7th 0x7 007 99999999999999999999 <count-7> <count-0> ' ’ \" ` * _ | \\ { } [ ] 🍎 "
            "\u202e \u200b \udcff \x00 \x1b[2J \n \ufeff"
        ).split(" ")
    ),
    max_size=8,
)
TEXTS = st.one_of(
    st.builds(lambda sign, words: sign.join(words), st.sampled_from((" ", " ", "")), WORDS),
    WORDS.map(lambda words: " ".join(words) * 200),
    st.text(max_size=30),
)


@st.composite
def damaged_json(draw: Callable, document: Any) -> Any:
    """A copy of what JSON can hold with some places changed, taken away or exchanged."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        if places := list(_places(document)):
            holder, key = draw(st.sampled_from(places))
            other, its = draw(st.sampled_from(places))
            if draw(st.booleans()):
                holder[key] = draw(ODD_VALUES | st.just(copy.deepcopy(other[its])))
            else:
                del holder[key]
    return document


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(document) if isinstance(document, dict) else range(len(document)):
        yield document, key
        if isinstance(document[key], dict | list):
            yield from _places(document[key])


@st.composite
def damaged_bytes(draw: Callable, content: bytes) -> bytes:
    """Content with bytes put in, changed or cut off, or nested without end."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        place, length = draw(st.integers(0, len(changed))), draw(st.sampled_from((0, 1, 1, len(changed))))
        changed[place : place + length] = draw(st.binary(max_size=8) | st.just(b"[" * 100_000))
    return bytes(changed)


def damaged_text(document: Any) -> st.SearchStrategy[bytes]:
    """Bytes of a damaged JSON document."""
    text = damaged_json(document).map(lambda changed: json.dumps(changed).encode())
    return text | text | text | damaged_bytes(json.dumps(document).encode())


_FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.mkdir", "subprocess.", "socket.")
_watched: list[int] = []
_seen: list[str] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if threading.get_ident() in _watched and event.startswith(_FORBIDDEN):
        _seen.append(f"{event} {ascii(arguments)[:80]}")


sys.addaudithook(_hook)  # it stays for the process, and is silent outside `nothing_runs`


@contextmanager
def nothing_runs() -> Iterator[None]:
    """Raise if this thread starts a process, opens a connection or makes a folder meanwhile."""
    _watched.append(threading.get_ident())
    try:
        yield
    finally:
        _watched.clear()
        seen, _seen[:] = list(_seen), []
    assert not seen, seen


def read_or_one_line(read: Callable[[], object]) -> None:
    """Read a file, which ends in what it honestly holds or in one line that says what is wrong, and runs nothing."""
    message = ""
    with nothing_runs():
        try:
            read()
        except (UnicodeError, json.JSONDecodeError):  # of a library, as it is
            raise
        except (ValueError, OSError) as error:
            message = str(error)
    assert "\n" not in message
    assert len(message) <= LONGEST_MESSAGE
