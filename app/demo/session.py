"""The server-side state of one visitor, kept for as long as the page is open."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import ref

if TYPE_CHECKING:
    import countgen
    from countgen.app.demo.generate_form import GenerateForm
    from countgen.benchmarks.evaluation.labels import Question
    from countgen.tokens.file import CountToken


@dataclass(frozen=True)
class GalleryEntry:
    """A finished image of the gallery.

    Attributes:
        title: the targets as text.
        correct: the judge's counts equal the targets.
        preview: data URI of the image as it is shown.
        boxes: the judge's boxes as SVG, for the preview.
        view: the result view as HTML, with the PNG inside.
        file_name: of the PNG.
        png: content of the PNG file, recipe inside.
        recipe: of the image.
        form: the settings it was generated with.
    """

    title: str
    correct: bool
    preview: str
    boxes: str
    view: str
    file_name: str
    png: bytes
    recipe: Mapping[str, Any]
    form: GenerateForm


@dataclass
class Labelling:
    """The progress of one person who labels one run.

    Attributes:
        run: name of the run.
        labeller: name of the person.
        question: the current image and its object names; None when all images are labelled.
        counts: given so far for the current image, in the order of its object names.
        done, total: number of labelled images and of all images.
    """

    run: str
    labeller: str
    question: Question | None = None
    counts: tuple[int | None, ...] = ()
    done: int = 0
    total: int = 0


@dataclass
class Session:
    """The state of one visitor; no function of the demo reads another visitor's session.

    Attributes:
        busy: a job is queued or running.
        stopping: the visitor asked the job to end with the best result so far.
        run: the generation in progress, which Stop ends within an evaluation; None between two.
        gallery: finished images, newest first.
        shown: the image on the page, which the next steps and the Edit tab refer to.
        tokens: learned or uploaded, by the name they are offered under.
        labelling: None before the visitor starts to label.
        key: random text by which alone a reloaded page finds its session; empty before the page asks for it.
    """

    busy: bool = False
    stopping: bool = False
    run: countgen.Run | None = None
    gallery: list[GalleryEntry] = field(default_factory=list)
    shown: GalleryEntry | None = None
    tokens: dict[str, CountToken] = field(default_factory=dict)
    labelling: Labelling | None = None
    key: str = ""

    def begin(self) -> None:
        """Mark a job as queued or running."""
        self.busy, self.stopping = True, False

    def end(self) -> None:
        """Mark the job as ended, whatever the reason."""
        self.busy = self.stopping = False
        self.run = None

    def stop(self) -> None:
        """Ask the job to end with the best result so far; has no effect without a job."""
        self.stopping = self.busy
        if self.busy and self.run is not None:
            self.run.stop()

    def keep_image(self, entry: GalleryEntry, most: int) -> None:
        """Keep a finished image and show it; the oldest images beyond `most` are dropped."""
        self.gallery.insert(0, entry)
        self.shown = entry
        del self.gallery[most:]

    def keep_token(self, origin: str, token: CountToken, most: int) -> str:
        """Keep a token under an unused name and return the name; the oldest tokens beyond `most` are dropped."""
        names = [f"{token.name}, {origin}", *(f"{token.name}, {origin} ({k})" for k in range(2, most + 2))]
        name = next(name for name in names if name not in self.tokens)
        self.tokens[name] = token
        for oldest in list(self.tokens)[:-most]:
            del self.tokens[oldest]
        return name


class UploadedTokens:
    """Bound the total size of all visitors' uploaded tokens: the oldest are dropped from their sessions.

    A session outlives its page by an hour, and a program can open any number of sessions.

    Args:
        max_bytes: total size of the files that are kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.kept_bytes = max_bytes, 0
        self._files: deque[tuple[ref[Session], str, ref[CountToken], int]] = deque()
        self._lock = Lock()

    def keep(self, session: Session, name: str, size: int) -> None:
        """Account for the file of a token that a session has just kept under a name."""
        with self._lock:
            self._files.append((ref(session), name, ref(session.tokens[name]), size))
            self.kept_bytes += size
            while self.kept_bytes > self.max_bytes:
                visitor, name, token, size = self._files.popleft()
                self.kept_bytes -= size
                owner = visitor()
                # The name may belong to a later token by now.
                if owner is not None and owner.tokens.get(name) is token() is not None:
                    del owner.tokens[name]
