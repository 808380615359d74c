"""Tables and lines as the documents show them."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.evaluation.statistics import Duel


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, without a line break at its end."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def paired(first: str, second: str, found: Duel) -> str:
    """Return one method against another on the same cases, in words."""
    return (
        f"{first} against {second}: {found.won} won, {found.lost} lost of {found.cases}, "
        f"exact McNemar p = {found.p_value:.2g}"
    )
