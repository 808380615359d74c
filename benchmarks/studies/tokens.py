"""What count tokens are worth: `python -m benchmarks.studies.tokens`.

`--learn` learns the tokens that are shipped and writes them. `--measure` generates the same seeds with the plain
prompt, with the number word alone ("seven apples"), with tokens of the published recipe, with ours as `countgen
learn-token` learns them by default, by a density map's gradient alone, and as they are shipped; the judge counts,
which was used to learn none of them. `--stamp` writes the measured accuracy into the shipped files. Without any of
them, the tables are printed from the records: `results/tokens.jsonl.gz` by default, and `--records` names those of
the methods that cost a learning a count, `results/published_tokens.jsonl.gz` and `results/learned_tokens.jsonl.gz`.

`--learn --counts 13-15` makes the tokens with a number direction, with `--model miniature-pixart` also of that model;
`--measure --methods "plain;word alone;slider;token"` compares them with the number slider, whose direction is that of
each prompt. Their records have a file of their own for each model.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

import countgen
from benchmarks.evaluation.statistics import duel, rate
from benchmarks.evaluation.token_records import RECORDS, TokenRecord, direction_records, hits, opened, read
from benchmarks.studies import published_token
from benchmarks.studies.markdown import paired, table
from countgen.backbones import PromptEmbeds
from countgen.miniature.world import HELD_OUT_OBJECTS, OBJECT_NAMES
from countgen.models import load_critic
from countgen.number_slider import NumberShift, encode_shifted, find_calibration
from countgen.number_slider.learning import direction_token
from countgen.prompts import Target
from countgen.prompts.number_words import number_word
from countgen.prompts.plurals import counted
from countgen.tokens.file import save_token
from countgen.tokens.library import FOLDER, available_tokens
from countgen.tokens.textual_inversion import encode_prompt
from countgen.tokens.trainer import LearnSettings, learn_token
from critics import Critic
from critics.detections import mean_score

COUNTS = range(1, 11)
LAST_COUNT = 20
UNSEEN = (*sorted(HELD_OUT_OBJECTS), "banana", "dog", "clock", "bus")
"""Object classes that no token was learned on; in the generator's training the first four had no number either."""
LEARNED = tuple(name for name in OBJECT_NAMES if name not in UNSEEN)
GROUPS = {"learned": LEARNED, "unseen": UNSEEN}
METHODS = (
    *("plain", "word alone", "published, untrained", "published, static", "published, dynamic"),
    *("learn-token", "by dynamic scale", "slider", "token"),
)
CHEAP = ("plain", "word alone", "token")
"""Methods that learn nothing when they are measured."""
SETTINGS = LearnSettings(
    templates=("a photo of {number} {objects}",), objects_per_step=4, num_optimization_steps=0, validation_pictures=64
)
"""Settings of the shipped tokens. One template, as other prompts call for other vectors; no gradient steps on the
count, as images do not agree on a direction, see `benchmarks.studies.token_oracle`."""
DEFAULTS = LearnSettings()
DYNAMIC = "miniature-yolo by miniature-density"
BY_DYNAMIC_SCALE = LearnSettings(teacher=None, initial_step=0, semantic_weight=0)
"""Nothing but gradients of the count, a detector's, in the direction of a density map."""
FIRST_SEED = 920_000
"""First seed of the measurement; no design was chosen on them. Tokens learn on seeds from 2**30."""
TEACHING_SEED = 2**31
"""Seed of the one image, of apples, that a token of the published recipe is trained on."""


def learn(models: countgen.Models, counts: Sequence[int], folder: Path, settings: LearnSettings) -> None:
    """Learn a token a count and write it."""
    folder.mkdir(parents=True, exist_ok=True)
    for count in counts:
        started, path = time.process_time(), folder / f"count-{count}.safetensors"
        calibration = find_calibration(models.backbone)
        if calibration is not None and calibration.replacement_for(count) is not None:
            save_token(direction_token(models.backbone, count, LEARNED, calibration), path, overwrite=True)
            print(f"{path.name}: a direction, {time.process_time() - started:.0f} s of one core", flush=True)
            continue
        learning = learn_token(models, count, LEARNED, settings)
        for _ in learning:
            pass
        save_token(learning.token, path, overwrite=True)
        validated = ", ".join(f"{100 * found.accuracy:.0f} %" for found in learning.validations)
        seconds, evaluations = time.process_time() - started, learning.state.evaluations
        cost = f"{learning.steps_made} steps, {evaluations} evaluations, {seconds:.0f} s of one core"
        print(f"{path.name}: {cost}, right by the critics {validated}", flush=True)


def ways(models: countgen.Models, count: int) -> dict[str, Callable[[], Callable[[str], PromptEmbeds]]]:
    """Return for each method what trains it, at most once, and returns how it encodes the prompt of an object class."""
    backbone = models.backbone

    def said(template: str, name: str) -> str:
        return template.format(f"{number_word(count)} {counted(name, count)}")

    def published(steps: int, *, dynamic: bool) -> Callable[[str], PromptEmbeds]:
        vectors = published_token.learn(
            models, Target("apple", count), TEACHING_SEED + count, dynamic=dynamic, max_steps=steps
        )
        return lambda name: published_token.encode(backbone, Target(name, count), vectors)

    def shipped_token() -> Callable[[str], PromptEmbeds]:
        shipped = available_tokens(backbone.name)[f"count-{count}"]
        return lambda name: encode_prompt(backbone, said("a photo of {}", name), shipped)

    def learned(taught: countgen.Models, settings: LearnSettings) -> Callable[[str], PromptEmbeds]:
        learning = learn_token(taught, count, LEARNED, settings)
        for _ in learning:
            pass
        token = learning.token
        return lambda name: encode_prompt(backbone, said("a photo of {}", name), token)

    def slider() -> Callable[[str], PromptEmbeds]:
        """Move each prompt along its own axis, from the start number and by the offset of the shipped token."""
        direction, calibration = available_tokens(backbone.name)[f"count-{count}"].direction, find_calibration(backbone)
        if direction is None or calibration is None:
            raise ValueError(f"the token of {count} has no number direction to compare the slider with")
        start, ends = direction.start_number, {"lo": calibration.lo, "hi": calibration.hi}
        before, word = "a photo of ", number_word(count)
        span = len(before), len(before + word)
        return lambda name: encode_shifted(
            backbone,
            said("a photo of {}", name),
            None,
            [NumberShift(name, *span, number=start, offset=direction.offset, **ends)],
        )

    made: dict[str, Callable[[], Callable[[str], PromptEmbeds]]] = {
        "plain": lambda: lambda name: backbone.encode_prompt(said("a photo of {}", name)),
        "word alone": lambda: lambda name: backbone.encode_prompt(said("{}", name)),
        "published, untrained": lambda: published(0, dynamic=False),
        "published, static": lambda: published(published_token.MAX_STEPS, dynamic=False),
        "published, dynamic": lambda: published(published_token.MAX_STEPS, dynamic=True),
        "learn-token": lambda: learned(models, DEFAULTS),
        "by dynamic scale": lambda: learned(replace(models, critics=(load_critic(DYNAMIC),)), BY_DYNAMIC_SCALE),
        "slider": slider,
        "token": shipped_token,
    }
    return {method: functools.cache(make) for method, make in made.items()}


def judged(judge: Critic, images: torch.Tensor, object_name: str) -> list[tuple[int, float]]:
    """Return the number and the mean class probability of the detections, for each image."""
    return [(len(one[0]), mean_score(one)) for one in judge.detect(images, [object_name])]


def measure(
    models: countgen.Models,
    counts: Sequence[int],
    pairs: int,
    methods: Sequence[str],
    done: Sequence[TokenRecord],
    first_seed: int = FIRST_SEED,
) -> Iterator[TokenRecord]:
    """Generate and judge `pairs` seeds for each count and group, all objects equally often; skip what is done."""
    there = {(record.count, record.object_name, record.seed): record.counted for record in done}
    shipped = {token.target_count: token.sha256 for token in available_tokens(models.backbone.name).values()}
    for count in counts:
        says = ways(models, count)
        for group, names in GROUPS.items():
            for k in range(pairs):
                name, seed = names[k % len(names)], first_seed + 1000 * count + k + (500 if group == "unseen" else 0)
                missing = [method for method in methods if method not in there.get((count, name, seed), {})]
                if not missing:
                    continue
                ready = [says[method]() for method in missing]
                with torch.no_grad():
                    latents = models.backbone.initial_latents([seed])
                    embeds = [say(name) for say in ready]
                    images = torch.cat([models.backbone.render(latents, one, [seed]) for one in embeds])
                found = dict(zip(missing, judged(models.judge, images, name), strict=True))
                yield TokenRecord(
                    count=count,
                    object_name=name,
                    seed=seed,
                    group=group,
                    counted={method: number for method, (number, _) in found.items()},
                    confidence={method: round(sure, 4) for method, (_, sure) in found.items()},
                    token=shipped[count] if "token" in missing else "",
                )


def by_count(records: Sequence[TokenRecord], methods: Sequence[str]) -> str:
    """Return Markdown: a row for each count and group of counts, a column for each method."""
    present = sorted({record.count for record in records})
    rows = [(str(count), [r for r in records if r.count == count]) for count in present]
    rows += [("**4-10**", [r for r in records if 4 <= r.count <= 10]), ("**all**", list(records))]
    cells = [[name, str(len(some)), *(rate(hits(some, m)) for m in methods)] for name, some in rows if some]
    return table(["objects", "n", *methods], cells)


def comparison(records: Sequence[TokenRecord], baseline: str) -> str:
    """Return ours against another method on the same images: exact McNemar, error, and the judge's confidence."""
    ours, other = hits(records, "token"), hits(records, baseline)
    found = duel(ours, other)
    errors = [
        statistics.mean(abs(record.counted[method] - record.count) for record in records)
        for method in ("token", baseline)
    ]
    sure = [statistics.mean(record.confidence[method] for record in records) for method in ("token", baseline)]
    points = 100 * (sum(ours) - sum(other)) / len(records)
    return (
        f"- {points:+.1f} points, {paired('token', baseline, found)}; mean error {errors[0]:.2f} against "
        f"{errors[1]:.2f}; the judge's confidence {100 * sure[0] / sure[1]:.0f} %"
    )


def report(records: Sequence[TokenRecord]) -> str:
    """Return every table and comparison, in Markdown, for all objects and each group, of the methods all cases have."""
    methods = [method for method in METHODS if records and all(method in record.counted for record in records)]
    parts = []
    for title, group in (("All objects", ""), ("Learned on, new seeds", "learned"), ("Never learned on", "unseen")):
        chosen = [record for record in records if group in ("", record.group)]
        if not chosen or not methods:
            continue
        parts += [f"### {title}", by_count(chosen, methods)]
        middle = [record for record in chosen if 4 <= record.count <= 10]
        for said, some in (("Counts 4 to 10", middle), ("All counts", chosen)):
            duels = [comparison(some, method) for method in methods if method != "token" and some]
            if "token" in methods and duels:
                parts.append("\n".join([f"{said}:", "", *duels]))
    return "\n\n".join(parts)


def stamp(records: Sequence[TokenRecord], folder: Path) -> None:
    """Write each token's accuracy, over both groups of objects, into its file.

    Raises:
        ValueError: records of other vectors than the file's; nothing is written then.
    """
    stamped = {}
    for name, token in available_tokens(folder.name).items():
        mine = [record for record in records if record.count == token.target_count]
        if {record.token for record in mine} - {token.sha256}:
            raise ValueError(
                f"the records of count {token.target_count} are of another token than {name}; --measure it"
            )
        if mine:
            accuracy = round(statistics.mean(hits(mine, "token")), 3)
            stamped[name] = replace(token, accuracy=accuracy)
    for name, token in stamped.items():
        save_token(token, folder / f"{name}.safetensors", overwrite=True)


def span(text: str) -> range:
    """Counts from "4-10", both ends included.

    Raises:
        argparse.ArgumentTypeError: another form, or counts outside 1 to `LAST_COUNT`.
    """
    first, dash, last = text.partition("-")
    if not (dash and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last) <= LAST_COUNT):
        raise argparse.ArgumentTypeError(f"{text!r} is no range of counts; write first-last within 1-{LAST_COUNT}")
    return range(int(first), int(last) + 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.tokens", description=__doc__)
    parser.add_argument("--learn", action="store_true", help="learn the shipped tokens anew")
    parser.add_argument("--measure", action="store_true", help="generate, judge and write records")
    parser.add_argument("--stamp", action="store_true", help="write the measured accuracy into the shipped tokens")
    parser.add_argument("--counts", type=span, default=COUNTS, help="first-last (1-10)")
    parser.add_argument("--model", default="miniature", choices=("miniature", "miniature-pixart"))
    parser.add_argument("--pairs", type=int, default=96, help="seeds per count and group of objects")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED, help="of those measured on (%(default)s)")
    parser.add_argument(
        "--methods", default=";".join(CHEAP), help="to measure: %(default)s, or of " + ";".join(METHODS)
    )
    parser.add_argument(
        "--records", type=Path, help="where they are (the file of the counts and the model in results/)"
    )
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    methods = options.methods.split(";")
    unknown = [method for method in methods if method not in METHODS]
    if unknown:
        parser.error(f"unknown method {unknown[0]!r}; there are {'; '.join(METHODS)}")
    if not 1 <= options.pairs <= 500:
        parser.error(f"--pairs is from 1 to 500, got {options.pairs}: a group of objects has 500 seeds a count")
    torch.set_num_threads(options.threads)
    counts = options.counts
    if options.records is None:
        options.records = RECORDS if counts[-1] in COUNTS else direction_records(options.model)
    if options.learn or options.measure:
        models = countgen.load(options.model)
    if options.learn:
        learn(models, counts, FOLDER / models.backbone.name, SETTINGS)
    if options.measure:
        options.records.parent.mkdir(parents=True, exist_ok=True)
        done = read(options.records)
        with opened(options.records, "a") as file:
            for record in measure(models, counts, options.pairs, methods, done, options.first_seed):
                print(json.dumps(asdict(record)), file=file, flush=True)
    if options.stamp:
        try:
            stamp(read(options.records), FOLDER / options.model)
        except ValueError as error:
            parser.error(str(error))
    print(report(read(options.records)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
