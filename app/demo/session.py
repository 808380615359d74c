"""What the demo remembers of one visitor, on the server, for as long as the page is open."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING
from weakref import ref

if TYPE_CHECKING:
    from benchmarks.evaluation.labels import Question
    from countgen.tokens.file import CountToken


@dataclass(frozen=True)
class Picture:
    """A finished picture of the gallery.

    Attributes:
        title: what was asked for.
        right: the judge agrees.
        thumbnail: data URI of a small picture.
        stage: the whole result as HTML, the PNG inside.
    """

    title: str
    right: bool
    thumbnail: str
    stage: str


@dataclass
class Labelling:
    """One person counting in one run.

    Attributes:
        run: its name.
        labeller: their name.
        question: the picture at hand; None when all are counted.
        counts: of its objects, those given so far.
        done, total: pictures.
    """

    run: str
    labeller: str
    question: Question | None = None
    counts: tuple[int, ...] = ()
    done: int = 0
    total: int = 0


@dataclass
class Session:
    """One visitor's own things; no function of the demo reads another visitor's.

    Attributes:
        busy: a job was asked for and has not ended.
        stopping: the visitor wants the job to end with the best so far.
        pictures: newest first.
        tokens: learned or handed in, by the name they are offered under.
        labelling: what they count; None before they start.
    """

    busy: bool = False
    stopping: bool = False
    pictures: list[Picture] = field(default_factory=list)
    tokens: dict[str, CountToken] = field(default_factory=dict)
    labelling: Labelling | None = None

    def begin(self) -> None:
        """A job was asked for."""
        self.busy, self.stopping = True, False

    def end(self) -> None:
        """The job ended, whatever the reason."""
        self.busy = self.stopping = False

    def stop(self) -> None:
        """Ask the job to end with the best so far; nothing happens where none runs or waits."""
        self.stopping = self.busy

    def keep_token(self, origin: str, token: CountToken, most: int) -> str:
        """Offer a token under a free name, which is returned; the oldest goes where there are too many."""
        names = [f"{token.name}, {origin}", *(f"{token.name}, {origin} ({k})" for k in range(2, most + 2))]
        name = next(name for name in names if name not in self.tokens)
        self.tokens[name] = token
        for oldest in list(self.tokens)[:-most]:
            del self.tokens[oldest]
        return name


class HandedIn:
    """All visitors' token files together: where they are too large, the oldest leave their visitor's list.

    A session lives on for an hour after its page, and a program opens as many as it likes.

    Args:
        most: bytes of files that are kept.
    """

    def __init__(self, most: int) -> None:
        self.most, self.held = most, 0
        self._files: deque[tuple[ref[Session], str, ref[CountToken], int]] = deque()
        self._lock = Lock()

    def keep(self, session: Session, name: str, size: int) -> None:
        """Count the file of a token that a visitor was just offered under a name."""
        with self._lock:
            self._files.append((ref(session), name, ref(session.tokens[name]), size))
            self.held += size
            while self.held > self.most:
                visitor, name, token, size = self._files.popleft()
                self.held -= size
                theirs = visitor()
                # The name may stand for a later token by now.
                if theirs is not None and theirs.tokens.get(name) is token() is not None:
                    del theirs.tokens[name]
