"""When a run is worth no further evaluation: a rule apart from P(right), which says what to believe of an image."""

DEFAULT_WORTH = 400.0
"""Evaluations that a right image is worth, where a probability of 0.98 is asked for."""


def gains_too_little(probability: float, evaluations: int, worth: float) -> bool:
    """Return whether another evaluation costs more than it is expected to gain.

    After n evaluations without an accepted image, the next one is accepted with probability 1 / (n + 1), by the rule of
    succession, and gains what is missing from the best image: with `worth` infinite the run is best-of-N for the N of
    its budget.

    Args:
        probability: P(right) of the best image so far.
        evaluations: spent on the run.
        worth: evaluations that a right image is worth.

    Source: Weitzman 1979 (a box is opened while its reservation value is above the best one found).
    """
    return worth * (1 - probability) < evaluations + 1
