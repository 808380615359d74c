"""Sentences and escaped HTML fragments that several tabs of the demo share."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from countgen.app.demo.session import GalleryEntry
from countgen.backbones.registry import presets
from countgen.miniature.world import OBJECT_NAMES
from countgen.prompts import OVERRIDE, Target
from countgen.prompts.plurals import count_in_words, counted

MINIATURES = ("miniature", "miniature-pixart")


def target_list(targets: Sequence[Target]) -> str:
    """Return the targets of a prompt as text, for example "7 × apple, 2 × dog"."""
    return ", ".join(f"{target.target_count} × {target.object_name}" for target in targets)


def counts_of(targets: Sequence[Target], counts: Sequence[int]) -> str:
    """Return counts beside their targets as text, for example "6 of 7 apples, no answer of 1 dog"."""
    return ", ".join(
        f"{count_in_words(count)} of {target.target_count} {counted(target.object_name, target.target_count)}"
        for target, count in zip(targets, counts, strict=True)
    )


def chips(targets: Sequence[Target]) -> str:
    """Return the targets that were parsed from a prompt, one chip per object class."""
    return "<p class='chips'>" + "".join(f"<span>{escape(target_list([one]))}</span>" for one in targets) + "</p>"


def counts_line(entries: Sequence[GalleryEntry]) -> str:
    """Return how many of several images have the right count; nothing for a single one."""
    if len(entries) < 2:
        return ""
    right = sum(entry.correct for entry in entries)
    return hint(f"{right} of {len(entries)} images have the right count by the judge; all are below.")


def model_line(name: str) -> str:
    """Return what a model is, for visitors who see the page for the first time."""
    preset = presets()[name][1] if name in presets() else None
    if preset is None:
        return hint(f"Model: {name}.")
    size = f"{preset.width} × {preset.height} pixels"
    if name not in MINIATURES:
        return hint(f"Model: {name}, {size}; licence: {preset.licence}.")
    return hint(
        f"{name} is a small model inside countgen: it generates {len(OBJECT_NAMES)} object classes in {size} "
        "and runs on a CPU. It shows how counting works, not how good images look."
    )


def hint(text: str) -> str:
    """Return a remark below a field or an image."""
    return f"<p class='hint'>{escape(text)}</p>"


def sentence(message: object) -> str:
    """Return an error message as an escaped sentence, without the advice that is for the command line and the API."""
    text = " ".join(str(message).replace(f", or {OVERRIDE}", "").split())
    return escape(text[:1].upper() + text[1:] + ("" if text.endswith(".") else "."), quote=False)


def table(label: str, heads: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """Return a table whose first column names the rows; it scrolls sideways on a phone and with the keyboard."""
    head = "".join(f"<th scope='col'>{escape(text)}</th>" for text in heads)
    body = "".join(
        f"<tr><th scope='row'>{escape(name)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        for name, *cells in rows
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f"<div class='wide' tabindex='0' role='region' aria-label='{escape(label, quote=True)}'><table class='figures'>"
        f"{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def fact(label: str, value: str) -> str:
    """Return one entry of a definition list."""
    return f"<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd></div>"
