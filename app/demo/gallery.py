"""A visitor's finished images: as buttons below the page, and all of them as one file."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Sequence
from html import escape

import countgen
from countgen.app.demo.generate_form import GenerateForm
from countgen.app.demo.html import target_list
from countgen.app.demo.image_html import overlay, png_bytes, shown_uri
from countgen.app.demo.result_view import HistoryEntry, finished, size_of
from countgen.app.demo.session import GalleryEntry
from countgen.app.image_files import slug


def entry_of(
    result: countgen.Result,
    history: Sequence[HistoryEntry],
    form: GenerateForm,
    *,
    original: bool = False,
    ending: str = "",
    timed: bool = True,
) -> GalleryEntry:
    """Return the gallery entry of a result; arguments as of `result_view.finished`."""
    png, file_name = png_bytes(result.image, result.recipe), f"{slug(result.recipe['prompt'])}-{result.seed}.png"
    return GalleryEntry(
        title=target_list(result.targets),
        correct=bool(result.verified),
        preview=shown_uri(result.image),
        boxes=overlay(size_of(result.image), result.detections),
        view=finished(result, history, png, file_name, original=original, ending=ending, timed=timed),
        file_name=file_name,
        png=png,
        recipe=result.recipe,
        form=form,
    )


def gallery(entries: Sequence[GalleryEntry]) -> str:
    """Return a visitor's images as buttons, each of which shows its result again."""
    if not entries:
        return ""
    cards = "".join(
        f"<li><button type='button' data-index='{k}' class='{'right' if entry.correct else 'wrong'}'>"
        f"<img src='{entry.preview}' alt=''><span>{escape(entry.title)}</span>"
        f"<em>{'correct' if entry.correct else 'not correct'}</em></button></li>"
        for k, entry in enumerate(entries)
    )
    return f"<h2>Your images</h2><ul class='gallery'>{cards}</ul>"


def zip_link(entries: Sequence[GalleryEntry]) -> str:
    """Return a link to a zip file of all images as PNG files with their recipes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:  # stored: PNG files are compressed already
        for number, entry in enumerate(reversed(entries), start=1):
            archive.writestr(f"{number:02}-{entry.file_name}", entry.png)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return f"<a class='button' download='countgen.zip' href='data:application/zip;base64,{data}'>Download zip</a>"
