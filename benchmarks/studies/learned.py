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
_TWICE = ("plain", "plain+token", "plain+adapter", "search")
"""An adapter that reads the denoised latents is charged a second evaluation: `search` has the best of two seeds."""
_BEYOND = ("plain", "plain+token")
_STARTS = ("search", "search+adapter", "auto", "auto+adapter")
PARTS = {
    "adapter-unseen": Part("miniature", 1, WORDS, 48, _TWICE, UNSEEN, HELD_OUT_TEMPLATES, max_evaluations=2),
    "adapter-learned": Part("miniature", 1, WORDS, 32, _TWICE, LEARNED, max_evaluations=2),
    "tokens-unseen": Part("miniature", 1, BEYOND, 48, _BEYOND, UNSEEN, HELD_OUT_TEMPLATES),
    "tokens-learned": Part("miniature", 1, BEYOND, 48, _BEYOND, LEARNED),
    "pixart-tokens-unseen": Part("miniature-pixart", 1, BEYOND, 48, _BEYOND, UNSEEN, HELD_OUT_TEMPLATES),
    "adapter-start": Part("miniature", 1, range(6, 13), 12, _STARTS, UNSEEN, max_evaluations=40),
    "tokens-start": Part(
        "miniature", 1, range(13, 16), 24, ("search", "search+token", "auto", "auto+token"), UNSEEN, max_evaluations=40
    ),
}
"""Parts of the study in the order in which they run."""

STUDY = Study(
    "learned",
    PARTS,
    (
        Hypothesis("adapter-unseen", range(6, 13), "plain+adapter", "plain"),
        Hypothesis("adapter-unseen", range(6, 13), "plain+adapter", "search"),
        Hypothesis("adapter-unseen", range(6, 13), "plain+adapter", "search", same=True),
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
)

main = STUDY.main

if __name__ == "__main__":
    raise SystemExit(main())
