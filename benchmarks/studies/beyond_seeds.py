"""The registered study of what seeds cannot do: keep the image, and reach counts that the model never learned.

docs/study-plan.md says what was fixed before it ran; `benchmarks.studies.registered` lists what this file can be asked
for.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.evaluation.metrics import by_arm, total
from benchmarks.evaluation.statistics import rate
from benchmarks.studies.markdown import table
from benchmarks.studies.registered import Hypothesis, Part, Study

WORDS, BEYOND = range(1, 13), range(13, 17)
"""Counts that captions of the training said, and counts that none did."""
PARTS = {
    "words": Part("miniature", 1, WORDS, 24, ("plain", "search", "noise", "lmn", "edit", "auto")),
    "beyond": Part("miniature", 1, BEYOND, 24, ("plain", "search+as-written", "search", "auto+as-written", "auto")),
    "two-classes": Part("miniature", 2, range(2, 11), 24, ("plain", "search", "edit", "auto")),
    "pixart-words": Part("miniature-pixart", 1, WORDS, 12, ("plain", "search", "edit", "auto")),
    "pixart-beyond": Part("miniature-pixart", 1, BEYOND, 12, ("plain", "search+as-written", "search", "auto")),
    "far-beyond": Part("miniature", 1, range(17, 21), 8, ("plain", "search", "auto")),
}

HYPOTHESES = (
    Hypothesis("words", range(4, 13), "edit", "search", same=True),
    Hypothesis("words", range(4, 13), "edit", "plain", same=True),
    Hypothesis("words", range(4, 13), "edit", "noise", same=True),
    Hypothesis("words", range(6, 13), "auto", "search"),
    Hypothesis("words", range(6, 13), "auto", "noise"),
    Hypothesis("beyond", range(13, 16), "search", "search+as-written"),
    Hypothesis("beyond", range(13, 16), "auto", "auto+as-written"),
    Hypothesis("beyond", BEYOND, "auto", "search"),
    Hypothesis("two-classes", range(2, 11), "auto", "search"),
    Hypothesis("two-classes", range(4, 11), "edit", "search", same=True),
    Hypothesis("pixart-words", range(4, 13), "edit", "search", same=True),
    Hypothesis("pixart-beyond", range(13, 16), "search", "search+as-written"),
)

STUDY = Study(
    "beyond-seeds",
    PARTS,
    HYPOTHESES,
    groups=(range(1, 6), range(4, 13), range(6, 11), range(11, 13), range(13, 16), range(16, 17), range(17, 21)),
    first_seed=80_000_000,
)

SUMMARY = {
    "1-5": ("words", range(1, 6), False),
    "6-10": ("words", range(6, 11), False),
    "11-12": ("words", range(11, 13), False),
    "13-15": ("beyond", range(13, 16), False),
    "16": ("beyond", range(16, 17), False),
    "two classes, 2-10": ("two-classes", range(2, 11), False),
    "right and the same image, 4-12": ("words", range(4, 13), True),
}
"""Columns of the README's table: part, totals, and whether the image is also the same."""


def summary(methods: Sequence[str]) -> str:
    """Return a Markdown table: images right in % by the first judge, with 95 % Wilson intervals."""
    arms = {name: by_arm(records) for name, records in STUDY.read().items()}
    columns = {}
    for column, (part, totals, same) in SUMMARY.items():
        test = Hypothesis(part, totals, "", "", same)
        columns[column] = {
            name: [test.holds(record) for record in mine if total(record) in totals]
            for name, mine in arms.get(part, {}).items()
        }
    head = ["method", *(f"{name} (n = {max(map(len, found.values()), default=0)})" for name, found in columns.items())]
    return table(head, [(name, *(rate(found.get(name, [])) for found in columns.values())) for name in methods])


main = STUDY.main

if __name__ == "__main__":
    raise SystemExit(main())
