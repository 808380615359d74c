"""Add one object after the other to an image: how long does an editor keep the number right and the image the same?

`python -m countgen.benchmarks.evaluation.chain` starts each chain from an image with one object, found by `search`, and
edits it to two, three, and so on; every edit starts from the one before. A judge that steers nothing counts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import countgen
from countgen.benchmarks.evaluation.report.table import Table, as_text, number, percent
from countgen.benchmarks.evaluation.statistics import wilson_interval
from countgen.image_preservation import LEAST_KEPT, MOST_CHANGED
from countgen.prompts.plurals import counted

OBJECTS = ("apple", "dog", "butterfly", "strawberry")


@dataclass(frozen=True)
class Link:
    """One edit of a chain.

    Attributes:
        count: that was asked for.
        right: whether the judge counts it.
        objects_kept, background_change: compared with the image before the edit.
        unbroken: this edit and all before it are right, and the image is the same but for the new object.
        evaluations, seconds: of the edit.
    """

    count: int
    right: bool
    objects_kept: float
    background_change: float
    unbroken: bool
    evaluations: int
    seconds: float


def chain(models: countgen.Models, object_name: str, seed: int, steps: int, max_evaluations: int) -> Iterator[Link]:
    """Yield the edits of one chain.

    Args:
        models: with a judge that detects.
        object_name: singular.
        seed: of the first image.
        steps: number of edits.
        max_evaluations: of each edit.
    """
    result = countgen.generate(f"a photo of one {object_name}", models, method="search", seed=seed, max_evaluations=60)
    unbroken = bool(result.verified)
    for count in range(2, steps + 2):
        result = countgen.edit(result, models, counts={object_name: count}, max_evaluations=max_evaluations)
        kept, change = result.objects_kept or 0.0, result.background_change or 0.0
        right = bool(result.verified)
        unbroken = unbroken and right and kept >= LEAST_KEPT and change <= MOST_CHANGED
        yield Link(count, right, kept, change, unbroken, result.evaluations, result.seconds)


def table(chains: Sequence[Sequence[Link]]) -> Table:
    """Return the table of chains of equal length, a row for each edit."""
    rows = []
    for links in zip(*chains, strict=True):
        right, unbroken = sum(link.right for link in links), sum(link.unbroken for link in links)
        rows.append(
            (
                f"{links[0].count - 1} -> {links[0].count}",
                percent(right / len(links), wilson_interval(right, len(links))),
                number(sum(link.objects_kept for link in links) / len(links)),
                percent(unbroken / len(links), wilson_interval(unbroken, len(links))),
                number(sum(link.evaluations for link in links) / len(links), 1),
                number(sum(link.seconds for link in links) / len(links), 1),
            )
        )
    header = ("", "right, %", "kept", "unbroken, %", "evaluations", "seconds")
    note = (
        f"Means of {len(chains)} {counted('chain', len(chains))}. Kept: share of the objects that can stay. Unbroken: "
        f"this edit and all before it are right, keep at least {LEAST_KEPT:g} of the objects, and change the "
        f"background by at most {MOST_CHANGED:g}."
    )
    return Table("One object more, from edit to edit", header, tuple(rows), note)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run chains, and print their table, or a line of JSON for each chain."""
    parser = argparse.ArgumentParser(prog="python -m countgen.benchmarks.evaluation.chain", description=__doc__)
    parser.add_argument("--model", default="miniature", help="as of `countgen generate`")
    parser.add_argument("--chains", type=int, default=4, help="number of chains, over four objects in turn")
    parser.add_argument("--steps", type=int, default=10, help="edits in each chain")
    parser.add_argument("--seed", type=int, default=0, help="of the first chain")
    parser.add_argument("--max-evaluations", type=int, default=100, help="of each edit")
    parser.add_argument(
        "--json", action="store_true", help="print each chain as a line of JSON as soon as it is finished"
    )
    options = parser.parse_args(arguments)
    models = countgen.load(options.model, objects=OBJECTS)
    chains = []
    for index in range(options.chains):
        name = OBJECTS[index % len(OBJECTS)]
        links = list(chain(models, name, options.seed + index, options.steps, options.max_evaluations))
        chains.append(links)
        if options.json:
            print(json.dumps({"object": name, "seed": options.seed + index, "edits": [asdict(link) for link in links]}))
    if not options.json:
        print(as_text(table(chains)))


if __name__ == "__main__":
    main()
