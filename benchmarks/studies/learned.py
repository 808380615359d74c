"""The registered study of what is learned once and reused: noise adapters, and count tokens with a number direction.

docs/study-plan-learned.md says what was fixed before it ran; `benchmarks.studies.registered` lists what this file can
be asked for.
"""

from __future__ import annotations

from benchmarks.studies.registered import Hypothesis, Part, Study
from benchmarks.studies.tokens import LEARNED, UNSEEN

WORDS, BEYOND = range(4, 13), range(13, 18)
"""Counts that captions of the training said, and counts that none did."""
HELD_OUT_TEMPLATES = ("{} in the snow", "a photo of {} on a table")
"""Templates that neither tokens nor adapters were learned on."""
ONCE = ("plain", "plain+token", "plain+adapter")
_BEYOND = ("plain", "plain+token")
PARTS = {
    "adapter-unseen": Part("miniature", 1, WORDS, 48, ONCE, UNSEEN, HELD_OUT_TEMPLATES),
    "adapter-learned": Part("miniature", 1, WORDS, 32, ONCE, LEARNED),
    "tokens-unseen": Part("miniature", 1, BEYOND, 48, _BEYOND, UNSEEN, HELD_OUT_TEMPLATES),
    "tokens-learned": Part("miniature", 1, BEYOND, 48, _BEYOND, LEARNED),
    "pixart-tokens-unseen": Part("miniature-pixart", 1, BEYOND, 48, _BEYOND, UNSEEN, HELD_OUT_TEMPLATES),
    "adapter-start": Part(
        "miniature", 1, range(6, 13), 12, ("search", "search+adapter", "auto", "auto+adapter"), UNSEEN
    ),
    "tokens-start": Part("miniature", 1, range(13, 16), 24, ("search", "search+token", "auto", "auto+token"), UNSEEN),
}
"""Parts of the study in the order in which they run."""

STUDY = Study(
    "learned",
    PARTS,
    (
        Hypothesis("adapter-unseen", range(6, 13), "plain+adapter", "plain"),
        Hypothesis("adapter-learned", range(6, 13), "plain+adapter", "plain"),
        Hypothesis("adapter-unseen", range(4, 11), "plain+token", "plain"),
        Hypothesis("tokens-unseen", range(13, 16), "plain+token", "plain"),
        Hypothesis("tokens-unseen", range(16, 18), "plain+token", "plain"),
        Hypothesis("pixart-tokens-unseen", range(13, 16), "plain+token", "plain"),
        Hypothesis("adapter-start", range(6, 13), "search+adapter", "search"),
        Hypothesis("adapter-start", range(6, 13), "auto+adapter", "auto"),
        Hypothesis("tokens-start", range(13, 16), "search+token", "search"),
    ),
    groups=(range(4, 6), range(4, 11), range(6, 13), range(13, 16), range(16, 18)),
    first_seed=110_000_000,
    max_evaluations=40,
)

if __name__ == "__main__":
    raise SystemExit(STUDY.main())
