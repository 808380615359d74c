"""The image that is edited, and what the number slider makes of it, as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from countgen.app.demo.html import hint
from countgen.app.demo.image_html import zoomable
from countgen.app.demo.image_pair import Side, actions, pair
from countgen.app.demo.session import GalleryEntry
from countgen.critics import NO_ANSWER
from countgen.prompts import Target
from countgen.prompts.plurals import counted


def opened(entry: GalleryEntry) -> str:
    """Return the view of the image that is to be edited."""
    return (
        f"<section class='stage start'>{zoomable(entry.preview, f'Image to edit: {entry.title}', entry.boxes)}"
        + hint(
            f"{entry.recipe.get('prompt')}, seed {entry.recipe.get('candidate_seed')}. Change its count, or move the "
            "slider: the seed stays, and what does not have to change stays as well."
        )
        + "</section>"
    )


def moved(
    before: Side,
    after: Side,
    targets: Sequence[Target],
    offset: float,
    counts: Sequence[int],
    png: bytes,
    file_name: str,
) -> str:
    """Return the view of an image whose prompt was moved along the number axis.

    Args:
        before, after: the images.
        targets: of the prompt.
        offset: in objects.
        counts: the judge's, of the image after.
        png, file_name: of the download.
    """
    found = " and ".join(
        f"{count} {counted(target.object_name, count)}" for count, target in zip(counts, targets, strict=True)
    )
    said = "gave no answer" if NO_ANSWER in counts else f"counts {found}"
    return (
        f"<section class='stage done'>{pair(before, after, targets, comparable=True)}"
        f"<p class='verdict' role='status'>Moved by {offset:+g}: the judge {escape(said)}.</p>"
        f"{actions(png, file_name)}"
        + hint("The slider moves the prompt's embeddings only: one image, no search. For an exact count press Edit.")
        + "</section>"
    )
