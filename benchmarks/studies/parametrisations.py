"""What the optimiser should move, and how, at equal evaluations: `python -m benchmarks.studies.parametrisations`.

The latents themselves against D2D's latent modifier network, ReNO's prior against D2D's sharpened one, Adam
against SGD with Nesterov's momentum. Each picture has one seed and the same budget of model evaluations. Each
way's learning rate is the best of its list on the tuning seeds; what is reported comes from the reporting seeds.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter

import torch

import countgen
from benchmarks.evaluation.statistics import holm, mcnemar_exact, wilson_interval
from benchmarks.studies.cases import Case, one_kind
from countgen.errors import NonFiniteLossError
from countgen.noise import NoiseSettings, refine
from countgen.step import COST_WITH_GRADIENT, Budget, Step

RATES: dict[tuple[str, str], tuple[float, ...]] = {
    ("latents", "adam"): (0.04, 0.08, 0.16),
    ("latents", "sgd"): (0.5, 2, 5),
    ("lmn", "adam"): (3e-4, 1e-3, 3e-3, 1e-2),
    ("lmn", "sgd"): (1e-3, 1e-2, 3e-2),
}
"""Learning rates that the tuning seeds choose from."""
PRIORS = {"ReNO prior": 1.0, "sharpened prior": 10.0}
"""The power that the prior's density is raised to; D2D's is 10."""
PAIRS = (
    ("lmn, adam, ReNO prior", "latents, adam, ReNO prior"),
    ("lmn, adam, sharpened prior", "latents, adam, ReNO prior"),
    ("latents, adam, sharpened prior", "latents, adam, ReNO prior"),
    ("lmn, adam, sharpened prior", "lmn, adam, ReNO prior"),
    ("latents, sgd, ReNO prior", "latents, adam, ReNO prior"),
    ("lmn, sgd, ReNO prior", "lmn, adam, ReNO prior"),
)
"""Ways that are compared on the same cases."""


@dataclass(frozen=True)
class Record:
    """What one way did with one case.

    Attributes:
        purpose: "tuning" or "reporting".
        way: parametrisation, optimizer and prior.
        learning_rate: of the optimizer.
        prompt, seed, target_count: the case.
        right: the judge counts what was asked.
        confirmed: the critics agree on every view.
        loss: of the best candidate.
        distance: how far its latents are from where they started, in standard deviations a component.
        evaluations, seconds: spent.
    """

    purpose: str
    way: str
    learning_rate: float
    prompt: str
    seed: int
    target_count: int
    right: bool
    confirmed: bool
    loss: float
    distance: float
    evaluations: int
    seconds: float


def measure(purpose: str, way: str, settings: NoiseSettings, case: Case, models: countgen.Models) -> Record:
    """Refine one seed and ask the judge."""
    backbone, targets = models.backbone, case.targets
    with torch.no_grad():
        embeds = backbone.encode_prompt(case.prompt)
    latents = backbone.initial_latents([case.seed])
    budget = Budget()
    best: Step | None = None
    # A rate that is too high ends in numbers that are not finite; what it found before counts, as in every run.
    with suppress(NonFiniteLossError):
        for step in refine(backbone, models.critics, embeds, targets, latents, [case.seed], budget, settings):
            best = step if best is None or step.rank > best.rank else best
    assert best is not None
    judged = models.judge.counts(best.image[None], [targets[0].object_name])[0, 0]
    return Record(
        purpose=purpose,
        way=way,
        learning_rate=settings.learning_rate,
        prompt=case.prompt,
        seed=case.seed,
        target_count=case.total,
        right=int(judged) == case.total,
        confirmed=best.confirmed,
        loss=best.loss,
        distance=float((best.latents - latents[0]).square().mean().sqrt()),
        evaluations=budget.evaluations,
        seconds=budget.seconds,
    )


def ways(steps: int) -> dict[str, NoiseSettings]:
    """Every way, with the first of its learning rates."""
    return {
        f"{parametrisation}, {optimizer}, {prior}": NoiseSettings(
            num_optimization_steps=steps,
            learning_rate=rates[0],
            optimizer=optimizer,
            parametrisation=parametrisation,
            prior_power=power,
        )
        for (parametrisation, optimizer), rates in RATES.items()
        for prior, power in PRIORS.items()
        if optimizer == "adam" or prior == "ReNO prior"
    }


def chosen_rate(records: Sequence[Record], way: str) -> float:
    """The rate with most right pictures on the tuning seeds; of equal ones that with fewest evaluations."""
    rates = {record.learning_rate for record in records if record.way == way and record.purpose == "tuning"}
    return max(sorted(rates), key=lambda rate: _merit(records, way, rate))


def chosen_way(records: Sequence[Record], among: Sequence[str]) -> str:
    """The way with most right pictures on the tuning seeds, each at its chosen rate; of equal ones the cheapest."""
    return max(among, key=lambda way: _merit(records, way, chosen_rate(records, way)))


def _merit(records: Sequence[Record], way: str, rate: float) -> tuple[int, int]:
    asked = ("tuning", way, rate)
    tried = [record for record in records if (record.purpose, record.way, record.learning_rate) == asked]
    return sum(record.right for record in tried), -sum(record.evaluations for record in tried)


def report(records: Sequence[Record]) -> str:
    """Markdown: a row per way, then the paired comparisons."""
    lines = [
        "| way | rate | n | right by the judge % [95 %] | counts 6-10 | confirmed % | evaluations | moved | s |",
        "| --- " * 9 + "|",
    ]
    reported = [record for record in records if record.purpose == "reporting"]
    for way in dict.fromkeys(record.way for record in reported):
        mine = [record for record in reported if record.way == way]
        number = len(mine)
        high = [record.right for record in mine if record.target_count > 5]
        evaluations, moved, spent = (
            sum(getattr(record, field) for record in mine) / number for field in ("evaluations", "distance", "seconds")
        )
        lines.append(
            f"| {way} | {mine[0].learning_rate:g} | {number} | {_share([r.right for r in mine])} | {_share(high)} | "
            f"{_share([r.confirmed for r in mine])} | {evaluations:.1f} | {moved:.2f} | {spent:.2f} |"
        )
    right = {(record.way, record.prompt, record.seed): record.right for record in reported}
    lines.append("")
    compared = []
    for first, second in PAIRS:
        cases = [key[1:] for key in right if key[0] == first and (second, *key[1:]) in right]
        ours, theirs = ([right[way, *case] for case in cases] for way in (first, second))
        won = sum(a and not b for a, b in zip(ours, theirs, strict=True))
        lost = sum(b and not a for a, b in zip(ours, theirs, strict=True))
        said = f"- {first} against {second}: {won} won, {lost} lost of {len(cases)}, exact McNemar p"
        compared.append((said, mcnemar_exact(ours, theirs)))
    corrected = holm([p for _, p in compared])
    for (said, p), holm_p in zip(compared, corrected, strict=True):
        lines.append(f"{said} = {p:.2g}, after Holm's correction {holm_p:.2g}")
    return "\n".join(lines)


def _share(hits: Sequence[bool]) -> str:
    low, high = wilson_interval(sum(hits), len(hits))
    return f"{100 * sum(hits) / max(len(hits), 1):.0f} [{100 * low:.0f}, {100 * high:.0f}]"


def read(path: Path) -> list[Record]:
    """Records that were written before; none where there is no file."""
    return [Record(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.parametrisations", description=__doc__)
    parser.add_argument("--counts", default="1-10", help="first-last")
    parser.add_argument("--pairs", type=int, default=8, help="prompt-seed pairs per count")
    parser.add_argument("--tuning-pairs", type=int, default=1, help="the same on the tuning seeds, for every rate")
    parser.add_argument("--evaluations", type=int, default=40, help="of a picture; a gradient costs two, a look one")
    parser.add_argument("--max-seconds", type=float, help="start no further case after this")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="one JSON record per line; what is there is kept and not run again")
    parser.add_argument("--read", type=Path, help="measure nothing: print the tables of these records")
    options = parser.parse_args(arguments)
    if options.read and not options.read.is_file():
        parser.error(f"--read: there is no file {options.read}")
    if options.read:
        print(report(read(options.read)))
        return 0
    ends = re.fullmatch(r"([0-9]{1,4})-([0-9]{1,4})", options.counts)
    if ends is None or not 1 <= int(ends[1]) <= int(ends[2]):
        parser.error(f"--counts must be first-last, like 1-10, got {options.counts!r}")
    if min(options.pairs, options.tuning_pairs, options.evaluations, options.threads) < 1:
        parser.error("--pairs, --tuning-pairs, --evaluations and --threads must be at least 1")
    torch.set_num_threads(options.threads)
    counts = range(int(ends[1]), int(ends[2]) + 1)
    steps = (options.evaluations - 1) // COST_WITH_GRADIENT + 1
    models = countgen.load()
    records = read(options.out) if options.out else []
    done = {(r.purpose, r.way, r.learning_rate, r.prompt, r.seed) for r in records}
    started = perf_counter()

    def run(purpose: str, way: str, settings: NoiseSettings, case: Case) -> None:
        late = options.max_seconds is not None and perf_counter() - started > options.max_seconds
        if late or (purpose, way, settings.learning_rate, case.prompt, case.seed) in done:
            return
        records.append(measure(purpose, way, settings, case, models))
        if options.out:
            with options.out.open("a") as file:
                print(json.dumps(asdict(records[-1])), file=file)

    plans = ways(steps)
    for case in one_kind(counts, options.tuning_pairs, "tuning"):
        for way, settings in plans.items():
            for rate in RATES[settings.parametrisation, settings.optimizer]:
                run("tuning", way, replace(settings, learning_rate=rate), case)
    tuned = {record.way for record in records if record.purpose == "tuning"}
    best = {way: replace(plans[way], learning_rate=chosen_rate(records, way)) for way in plans if way in tuned}
    # A case of every count before the next of any: a run that is cut short is still balanced.
    for case in sorted(one_kind(counts, options.pairs, "reporting"), key=lambda case: case.seed % 1000):
        for way, settings in best.items():
            run("reporting", way, settings, case)
    print(f"One seed a picture, at most {options.evaluations} evaluations, judge {models.judge.name}\n")
    print(report(records))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
