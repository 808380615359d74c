"""What the demo says, as plain words and escaped HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from countgen.prompts import OVERRIDE, Target


def asked(targets: Sequence[Target]) -> str:
    """For example "7 × apple, 2 × dog"."""
    return ", ".join(f"{target.target_count} × {target.object_name}" for target in targets)


def verdict(targets: Sequence[Target], counts: Sequence[int]) -> str:
    """The judge's finding in one sentence, a failure as a failure."""
    wanted = tuple(target.target_count for target in targets)
    if len(targets) == 1:
        if wanted == tuple(counts):
            return f"The judge counts {counts[0]}: as asked."
        return f"Target {wanted[0]}, found {counts[0]}."
    found = [
        f"{target.object_name} {count}" + ("" if count == target.target_count else f" instead of {target.target_count}")
        for target, count in zip(targets, counts, strict=True)
    ]
    if wanted == tuple(counts):
        return f"The judge counts {', '.join(found)}: as asked."
    return f"Found {', '.join(found)}."


def chips(targets: Sequence[Target]) -> str:
    """What was read from the prompt, one chip per kind of object."""
    return "<p class='chips'>" + "".join(f"<span>{escape(asked([target]))}</span>" for target in targets) + "</p>"


def hint(text: str) -> str:
    """A remark below a field."""
    return f"<p class='hint'>{escape(text)}</p>"


def sentence(message: object) -> str:
    """An error's message as a sentence, escaped, without the advice that is for programs and the command line."""
    text = " ".join(str(message).replace(f", or {OVERRIDE}", "").split())
    return escape(text[:1].upper() + text[1:] + ("" if text.endswith(".") else "."), quote=False)


def table(label: str, heads: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """Figures under heads, the first of each row its name; a phone scrolls it sideways, the keyboard too."""
    head = "".join(f"<th scope='col'>{escape(text)}</th>" for text in heads)
    body = "".join(
        f"<tr><th scope='row'>{escape(name)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        for name, *cells in rows
    )
    said = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f"<div class='wide' tabindex='0' role='region' aria-label='{escape(label, quote=True)}'><table class='figures'>"
        f"{said}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def fact(label: str, value: str) -> str:
    """One entry of a list of facts."""
    return f"<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd></div>"
