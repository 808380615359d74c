"""The registered study of a noise adapter of `miniature-pixart`, with the prompts of `benchmarks.studies.learned`.

docs/study-plan-learned.md says what was fixed before it ran; `benchmarks.studies.registered` lists what this file can
be asked for.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.studies import learned
from benchmarks.studies.registered import Hypothesis, Study

_PART, _COUNTS = "adapter-unseen", range(6, 13)

STUDY = Study(
    "learned-pixart",
    {_PART: replace(learned.PARTS[_PART], model="miniature-pixart", methods=("plain", "plain+adapter", "search"))},
    (
        Hypothesis(_PART, _COUNTS, "plain+adapter", "plain"),
        Hypothesis(_PART, _COUNTS, "plain+adapter", "search"),
        Hypothesis(_PART, _COUNTS, "plain+adapter", "search", same=True),
    ),
    groups=(range(4, 6), range(4, 11), _COUNTS),
    first_seed=learned.STUDY.first_seed,
)

main = STUDY.main

if __name__ == "__main__":
    raise SystemExit(main())
