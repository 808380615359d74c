"""The views of a run in progress, as the page shows them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import countgen
from countgen.app.demo.image_html import detect
from countgen.app.demo.result_view import SECONDS_BETWEEN_PREVIEWS, HistoryEntry, live
from countgen.app.demo.session import Session


def previews(
    run: countgen.Run, session: Session, history: list[HistoryEntry], max_seconds: float, title: str = ""
) -> Iterator[str]:
    """Iterate over a run until it ends or the visitor stops it, and yield the view of a candidate now and then.

    Args:
        run: not begun yet.
        session: of the visitor.
        history: an entry is added for each step.
        max_seconds: the run's time limit.
        title: text before the note about the progress.
    """
    critic, shown = run.models.critics[0], -math.inf
    session.run = run
    for step in run:
        if math.isfinite(step.loss):
            history.append(HistoryEntry(step.counts, step.loss))
        if session.stopping:
            return
        if history and time.monotonic() - shown > SECONDS_BETWEEN_PREVIEWS:
            yield live(
                step,
                detect(critic, step.image, run.targets),
                run.targets,
                history,
                critic=critic.name,
                max_seconds=max_seconds,
                title=title,
            )
            shown = time.monotonic()
