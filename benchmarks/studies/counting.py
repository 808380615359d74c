"""Accuracy by count of every method at equal compute: `python -m benchmarks.studies.counting`.

Every method gets the same prompts and seeds and the same seconds a picture. The judge is a detector of
another architecture; it is asked once, at the end, and never steers. Seeds are apart from those that
`benchmarks.studies.tuning` chose the settings on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

import countgen
from benchmarks.evaluation.statistics import duel, rate
from benchmarks.studies.cases import Case, one_kind, two_kinds

GROUPS = (("1-5", 1, 5), ("6-10", 6, 10), ("11-12", 11, 12), ("13-15", 13, 15))


@dataclass(frozen=True)
class Record:
    """What one method did with one case.

    Attributes:
        method, prompt, seed, total, kinds: the case.
        right: the judge counts what was asked.
        critic_right: the critic does.
        confirmed: the critics confirmed it on every view.
        seconds, evaluations: spent.
    """

    method: str
    prompt: str
    seed: int
    total: int
    kinds: int
    right: bool
    critic_right: bool
    confirmed: bool
    seconds: float
    evaluations: int


def measure(method: str, case: Case, models: countgen.Models, seconds: float) -> Record:
    """Run one method on one case and ask the judge."""
    run = countgen.Run(case.prompt, models, targets=case.targets, method=method, seed=case.seed, max_seconds=seconds)
    for _ in run:
        pass
    result = run.result()
    return Record(
        method=method,
        prompt=case.prompt,
        seed=case.seed,
        total=case.total,
        kinds=len(case.targets),
        right=result.verified,
        critic_right=result.counts == tuple(target.target_count for target in case.targets),
        confirmed=result.confirmed,
        seconds=result.seconds,
        evaluations=result.evaluations,
    )


def table(records: Sequence[Record], methods: Sequence[str]) -> str:
    """Markdown: a row per count and per group of counts, a column per method."""
    lines = ["| objects | n | " + " | ".join(methods) + " |", "| --- " * (len(methods) + 2) + "|"]
    rows: list[tuple[str, list[Record]]] = [
        (str(total), [r for r in records if r.total == total]) for total in sorted({r.total for r in records})
    ]
    rows += [(f"**{name}**", [r for r in records if low <= r.total <= high]) for name, low, high in GROUPS]
    rows.append(("**all**", list(records)))
    for name, chosen in rows:
        if not chosen:
            continue
        by_method = [[r for r in chosen if r.method == method] for method in methods]
        cells = [rate([r.right for r in mine]) for mine in by_method]
        lines.append(f"| {name} | {len(by_method[0])} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def costs(records: Sequence[Record], methods: Sequence[str]) -> str:
    """Markdown: what each method spent, and what its confirmation is worth."""
    lines = [
        "| method | s/image | median s | evaluations | critic right % | confirmed | of these wrong by the judge % |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for method in methods:
        mine = [r for r in records if r.method == method]
        confirmed = [r for r in mine if r.confirmed]
        lines.append(
            f"| {method} | {statistics.mean(r.seconds for r in mine):.2f} | "
            f"{statistics.median(r.seconds for r in mine):.2f} | {statistics.mean(r.evaluations for r in mine):.1f} | "
            f"{rate([r.critic_right for r in mine])} | {len(confirmed)} of {len(mine)} | "
            f"{rate([not r.right for r in confirmed])} |"
        )
    return "\n".join(lines)


def comparison(records: Sequence[Record], method: str, baseline: str) -> str:
    """Exact McNemar test of two methods on the same cases."""
    right = {(r.method, r.prompt, r.seed): r.right for r in records}
    cases = sorted({(r.prompt, r.seed) for r in records})
    mine, other = [right[method, *case] for case in cases], [right[baseline, *case] for case in cases]
    found = duel(mine, other)
    return (
        f"{method} against {baseline}: {found.won} won, {found.lost} lost of {found.cases}, "
        f"exact McNemar p = {found.p_value:.3g}"
    )


def report(records: Sequence[Record]) -> None:
    """Print every table."""
    methods = list(dict.fromkeys(record.method for record in records))
    print(table(records, methods), end="\n\n")
    print(costs(records, methods), end="\n\n")
    for baseline in ("search", "noise"):
        if baseline in methods and "auto" in methods:
            print(comparison(records, "auto", baseline))


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.counting", description=__doc__)
    parser.add_argument("--methods", default="plain,search,noise,auto")
    parser.add_argument("--counts", default="1-15", help="first-last")
    parser.add_argument("--two-kinds", action="store_true", help="two kinds of object in each prompt")
    parser.add_argument("--pairs", type=int, default=20, help="prompt-seed pairs per count")
    parser.add_argument("--seconds", type=float, default=1.5, help="budget of a picture")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--backbone", default="miniature")
    parser.add_argument("--purpose", choices=("reporting", "tuning"), default="reporting")
    parser.add_argument("--out", type=Path, help="write one JSON record per line here")
    parser.add_argument("--read", type=Path, nargs="+", help="measure nothing: print the tables of these records")
    options = parser.parse_args(arguments)
    if options.read:
        lines = [line for path in options.read for line in path.read_text().splitlines()]
        report([Record(**json.loads(line)) for line in lines])
        return 0
    torch.set_num_threads(options.threads)
    first, last = (int(end) for end in options.counts.split("-"))
    counts = range(max(first, 2) if options.two_kinds else first, last + 1)
    cases = (two_kinds if options.two_kinds else one_kind)(counts, options.pairs, options.purpose)
    methods = options.methods.split(",")
    models = countgen.load(options.backbone)
    measure("auto", cases[0], models, 10)  # the first run pays for lazy initialisation
    records = []
    with ExitStack() as stack:
        kept = None
        if options.out:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            kept = stack.enter_context(options.out.open("x"))  # earlier records are never overwritten
        for done, case in enumerate(cases, start=1):
            for method in methods:
                records.append(measure(method, case, models, options.seconds))
                if kept:
                    print(json.dumps(records[-1].__dict__), file=kept, flush=True)
            if sys.stderr.isatty():
                print(f"\r{done}/{len(cases)}", end="", file=sys.stderr)
    critics = ", ".join(critic.name for critic in models.critics)
    print(
        f"Exact count by the judge {models.judge.name} in % [95 % interval]; critics {critics}; "
        f"{options.purpose} seeds; budget {options.seconds} s an image, {options.threads} threads\n"
    )
    report(records)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
