"""A token costs nothing when it is used: `python -m benchmarks.studies.token_cost`.

The same prompts and seeds with the plain prompt, with a token, with noise optimisation, with search and refinement, and
with a token and the last of these together, all within one budget of evaluations; the judge is asked once, at the end.
`--learn` says what a token costs before: each is learned anew, as the shipped one was, and thrown away.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

import countgen
from benchmarks.evaluation.statistics import duel, rate
from benchmarks.studies.tokens import LEARNED, SETTINGS, UNSEEN, span
from countgen.number_words import number_word
from countgen.plurals import counted
from countgen.prompts import Target
from countgen.token import learn_token
from countgen.token_library import find_token

METHODS = ("plain", "token", "noise", "auto", "token+noise")
FIRST_SEED = 790_000


@dataclass(frozen=True)
class Spent:
    """What one method made of one case."""

    right: bool
    evaluations: int
    seconds: float


def measure(models: countgen.Models, count: int, name: str, seed: int, method: str, evaluations: int) -> Spent:
    """Run a method on objects that the token was never learned on."""
    token = find_token(f"count-{count}", models.backbone.name) if method.startswith("token") else None
    prompt = f"a photo of {number_word(count)} {counted(name, count)}"
    result = countgen.generate(
        prompt,
        models,
        targets=(Target(name, count),),
        method=method,
        seed=seed,
        max_evaluations=evaluations,
        token=token,
    )
    return Spent(result.verified, result.evaluations, result.seconds)


def table(spent: dict[str, list[Spent]]) -> str:
    """Markdown: a row per method."""
    lines = [
        "| method | right % | evaluations | s/image | right pictures a second |",
        "| --- | --- | --- | --- | --- |",
    ]
    for method, cases in spent.items():
        seconds = statistics.mean(case.seconds for case in cases)
        right = [case.right for case in cases]
        lines.append(
            f"| {method} | {rate(right)} | {statistics.mean(case.evaluations for case in cases):.1f} | {seconds:.2f} | "
            f"{statistics.mean(right) / seconds:.1f} |"
        )
    return "\n".join(lines)


def learning_cost(models: countgen.Models, count: int) -> str:
    """A row of Markdown: how long it takes to learn a token."""
    clock, processor = time.perf_counter(), time.process_time()
    learning = learn_token(models, count, LEARNED, SETTINGS)
    for _ in learning:
        pass
    seconds = f"{time.perf_counter() - clock:.0f} | {time.process_time() - processor:.0f}"
    return f"| {count} | {learning.steps_made} | {learning.state.evaluations} | {seconds} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.token_cost", description=__doc__)
    parser.add_argument("--counts", type=span, default=range(4, 11), help="first-last (4-10)")
    parser.add_argument("--pairs", type=int, default=4, help="seeds per count")
    parser.add_argument("--evaluations", type=int, default=40, help="budget of a picture; a gradient costs three")
    parser.add_argument("--learn", action="store_true", help="also learn the tokens anew, to say how long that takes")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    if min(options.pairs, options.evaluations) < 1:
        parser.error("--pairs and --evaluations must be at least 1")
    torch.set_num_threads(options.threads)
    models = countgen.load("miniature")
    measure(
        models, options.counts[0], UNSEEN[0], 0, "auto", options.evaluations
    )  # the first run pays for lazy initialisation
    spent: dict[str, list[Spent]] = {method: [] for method in METHODS}
    for count in options.counts:
        for k in range(options.pairs):
            case = (count, UNSEEN[k % len(UNSEEN)], FIRST_SEED + 1000 * count + k)
            for method, cases in spent.items():
                cases.append(measure(models, *case, method, options.evaluations))
    print(table(spent), end="\n\n")
    for method, baseline in (("token", "plain"), ("token+noise", "auto")):
        found = duel([case.right for case in spent[method]], [case.right for case in spent[baseline]])
        fate = f"{found.won} won, {found.lost} lost of {found.cases}, exact McNemar p = {found.p_value:.2g}"
        print(f"- {method} against {baseline}: {fate}")
    if options.learn:
        print("\n| count | steps | evaluations | seconds to learn | of one core |\n| --- | --- | --- | --- | --- |")
        for count in options.counts:
            print(learning_cost(models, count), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
