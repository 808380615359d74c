"""`countgen generate`: from a prompt to pictures with the right count, before and after."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from itertools import count as numbers
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

from app.argument_types import (
    MAX_SEED,
    MAX_SEEDS,
    positive,
    seconds,
    seeds_in,
)
from app.detector_arguments import add_detectors, chosen_detectors
from app.exit_codes import INTERRUPTED, NOT_REACHED, OK
from app.interrupts import held_interrupts
from app.loading import available_device, hide_loading_bars
from app.model_arguments import add_loading, add_model, add_sampling, asked_of_load
from app.terminal import fitted
from countgen import methods

if TYPE_CHECKING:
    from countgen import Result, Run, Target


def add_parser(commands: Any) -> None:
    """Add the command to the sub-parsers."""
    parser = commands.add_parser(
        "generate",
        help="draw pictures",
        description="Draw pictures of a prompt such as 'a photo of seven apples', each before and after steering.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("prompt", metavar="PROMPT", help="what to draw, with the count in words or digits")
    parser.add_argument(
        "--method",
        choices=methods.available(),
        default="auto",
        metavar="NAME",
        help=f"way to the count: {', '.join(methods.available())} (%(default)s)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the method, such as learning_rate=0.1; repeatable",
    )
    parser.add_argument(
        "--help-settings", action=SettingsHelp, help="list the settings of --method, given before it, and exit"
    )
    parser.add_argument(
        "--token",
        metavar="NAME|FILE",
        help="a count token to say the number: one that countgen tokens lists, or a file",
    )
    parser.add_argument(
        "--number-offset",
        action="append",
        default=[],
        metavar="X|NAME=X",
        help="objects to add to what the prompt says, for every object class or one (repeatable); 0 for the prompt as "
        "written (search and auto: the calibrated one where no number word reaches the count)",
    )
    parser.add_argument(
        "--calibration", type=Path, metavar="FILE", help="of the number offset: one that countgen calibrate wrote"
    )
    add_model(parser)
    add_loading(parser)
    add_sampling(parser)
    parser.add_argument(
        "--negative-prompt", metavar="TEXT", help="what the image shall not show; for models that use guidance"
    )
    add_detectors(parser)
    parser.add_argument(
        "--seed", action="extend", type=seeds_in, metavar="N|A-B", help="a seed or a range; repeatable (0)"
    )
    parser.add_argument("--images", type=positive, metavar="N", help="pictures from consecutive seeds (1)")
    parser.add_argument(
        "--count",
        action="append",
        metavar="NAME=N",
        help="what to count, such as apple=7, where the prompt is not clear; repeatable",
    )
    parser.add_argument(
        "--until",
        choices=("critic", "judge"),
        default="critic",
        help="who must agree before the work ends (%(default)s)",
    )
    parser.add_argument("--max-seconds", type=seconds, metavar="S", help="time limit for each picture (none)")
    parser.add_argument("--max-steps", type=positive, metavar="N", help="limit of steps for each picture (none)")
    parser.add_argument(
        "--max-evaluations",
        type=positive,
        metavar="N",
        help="limit of model evaluations for each picture (400; none with --max-seconds)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("pictures"), metavar="FOLDER", help="of the pictures (%(default)s)"
    )
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (CUDA where there is one)")
    parser.add_argument(
        "--memory",
        choices=("fast", "low"),
        default="fast",
        help="low: slower, for devices with little memory (%(default)s)",
    )
    parser.add_argument(
        "--draft", action="store_true", help="cheaper gradients through a tiny decoder; only where the backbone has one"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


class SettingsHelp(argparse.Action):
    """Print the settings of the chosen method with meaning, accepted values and default, and exit."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **options)

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        """Print and exit with 0."""
        from countgen.methods.settings import describe

        method = methods.load(namespace.method)
        print(fitted(f"{method.name}: {method.summary}"))
        listed = list(describe(method.settings_class()))
        for one in listed:
            print(fitted(f"  --set {one.name}={one.default}: {one.meaning}; {one.accepted}", hang=6))
        if not listed:
            print("  nothing can be set")
        parser.exit()


def run(options: argparse.Namespace) -> int:
    """Draw, write and report every picture; returns the exit code.

    Raises:
        ValueError, OSError: bad input, found before any model is loaded wherever that is possible.
    """
    from countgen.images import check_writable
    from countgen.methods.settings import with_text
    from countgen.number_slider import load_calibration
    from countgen.number_slider.shifts import number_offset_from
    from countgen.printable import printable
    from countgen.prompts import check_prompt, parse, targets_from
    from countgen.prompts.number_words import number_word

    seeds = _seeds(options)
    folder = check_writable(options.out)
    check_prompt(options.prompt)
    targets = targets_from(",".join(options.count)) if options.count else None
    # An unreadable prompt is refused before the models are loaded.
    objects = [target.object_name for target in targets or parse(options.prompt)]
    settings = with_text(methods.load(options.method).settings_class(), options.set)
    token = None
    if options.token is not None:
        from countgen.backbones.sources import find_source
        from countgen.tokens.library import find_token

        token = find_token(options.token, find_source(options.model).name)
    number_offset = number_offset_from(options.number_offset)
    calibration = load_calibration(options.calibration) if options.calibration else None
    device = available_device(options.device)

    import countgen

    hide_loading_bars()
    text = not options.json and not options.quiet
    choice = chosen_detectors(options, objects, text=text)
    models = countgen.load(
        options.model,
        objects=objects,
        critics=choice.critics,
        judge=choice.judge,
        because=choice.because,
        device=device,
        memory=options.memory,
        draft=options.draft,
        trust_checkpoint=options.trust_checkpoint,
        **asked_of_load(options),
    )
    if text and not options.model.startswith("miniature"):
        backbone = models.backbone
        sampled = f"{backbone.num_inference_steps} steps, guidance {backbone.guidance_scale:g}"
        print(fitted(f"{printable(backbone.name)}: {sampled}, {backbone.chosen}; licence: {backbone.preset.licence}"))
    records: list[dict[str, Any]] = []
    interrupted = False
    for seed in seeds:
        drawing = countgen.Run(
            options.prompt,
            models,
            targets=targets,
            method=options.method,
            settings=settings,
            seed=seed,
            max_seconds=options.max_seconds,
            max_evaluations=options.max_evaluations,
            until=options.until,
            token=token,
            number_offset=number_offset,
            calibration=calibration,
            negative_prompt=options.negative_prompt,
        )
        if text and not records:
            print(fitted(f"asked for: {_asked(drawing.targets)}"))
            for shift in drawing.shifts:
                said = f"the prompt embeddings of {number_word(shift.number)}, moved by {shift.offset:+g} objects"
                print(fitted(f"  {shift.object_name}: {said}; --number-offset 0 for the prompt as written", hang=4))
        interrupted = draw(drawing, options, f"seed {seed}")
        if drawing.best is None:  # interrupted before the first candidate
            break
        with held_interrupts() as interrupt:
            records.append(_written(drawing.result(), folder, options.prompt))
        interrupted |= interrupt.asked
        if text:
            report(records[-1])
        if interrupted:
            break
    right = sum(record["verified"] for record in records)
    if options.json:
        print(json.dumps({"prompt": options.prompt, "images": records, "right": right, "interrupted": interrupted}))
    elif text and len(records) > 1:
        print(fitted(f"the judge agrees with {right} of {len(records)} pictures"))
    if interrupted:
        return INTERRUPTED
    return OK if right == len(seeds) else NOT_REACHED


def draw(drawing: Run, options: argparse.Namespace, label: str) -> bool:
    """Work until the run ends; True where the user interrupted it."""
    from tqdm import tqdm

    # disable=None: no bar where standard error is no terminal.
    silent = True if options.quiet or options.json else None
    try:
        with tqdm(desc=label, bar_format="{desc}", disable=silent, leave=False) as bar:
            for number, step in enumerate(drawing, start=1):
                soft = " ".join(f"{value:.1f}" for value in step.soft_counts)
                hard = " ".join(map(str, step.counts))
                # What matters stands first: a narrow terminal cuts the rest, and would break a longer line.
                said = f"{label}: count {hard} soft count {soft} loss {step.loss:.2f}, {step.phase}, step {number}"
                bar.set_description_str(said[: get_terminal_size().columns - 1], refresh=False)
                bar.update()
                if number == options.max_steps:
                    break
    except KeyboardInterrupt:
        return True
    return False


def _written(result: Result, folder: Path, prompt: str) -> dict[str, Any]:
    """Write both pictures, recipe inside, and return the record of the result."""
    from countgen.images import save_png
    from countgen.recipe import plain

    before_path, after_path = _free_paths(folder, f"{slug(prompt)}-{result.seed}")
    before = save_png(result.before, before_path, plain(result.recipe))
    try:
        after = save_png(result.image, after_path, result.recipe)
    except BaseException:  # both images or none, on a full disk too
        before.unlink(missing_ok=True)
        raise
    return record_of(result, before, after)


def record_of(result: Result, before: Path, after: Path) -> dict[str, Any]:
    """Return the record of a result, for JSON, with the files of its two images."""
    from critics import NO_ANSWER

    return {
        "seed": result.seed,
        "before": str(before),
        "after": str(after),
        "targets": {target.object_name: target.target_count for target in result.targets},
        "counts": list(result.counts),
        "judge_counts": [None if count == NO_ANSWER else count for count in result.judge_counts],
        "objects_kept": _rounded(result.objects_kept),
        "background_change": _rounded(result.background_change),
        "structural_similarity": _rounded(result.structural_similarity),
        "confirmed": result.confirmed,
        "verified": result.verified,
        "method": result.method,
        "phase": result.phase,
        "steps": result.steps,
        "evaluations": result.evaluations,
        "seconds": round(result.seconds, 3),
        "stopped": result.stopped,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _free_paths(folder: Path, stem: str) -> tuple[Path, Path]:
    """The first pair of names of which neither is taken."""
    for number in numbers(1):
        name = stem if number == 1 else f"{stem}-{number}"
        pair = folder / f"{name}-before.png", folder / f"{name}-after.png"
        if not any(path.exists() for path in pair):
            return pair
    raise AssertionError("numbers do not end")


def report(record: dict[str, Any], *, preservation: bool = False) -> None:
    """Print a record as text, with the measures of what is kept of the image before if `preservation` is set."""
    from countgen.printable import printable

    verdict = "right" if record["verified"] else "NOT what was asked"
    said = (
        f"seed {record['seed']}: critic counts {_joined(record['counts'])}, judge counts "
        f"{_joined(record['judge_counts'])}: {verdict} ({record['method']}, {record['steps']} steps, "
        f"{record['evaluations']} evaluations, {record['seconds']:.1f} s)"
    )
    print(fitted(said))
    if preservation and record["objects_kept"] is not None:
        kept = (
            f"{record['objects_kept']:.0%} of the objects kept, background changed by {record['background_change']:.3f}"
        )
        print(fitted(f"  {kept} ({record['phase']})", hang=4))
    if record["stopped"]:
        print(fitted(f"  stopped early: {record['stopped']}", hang=4))
    print(f"  {printable(record['before'])}\n  {printable(record['after'])}")


def _joined(counts: list[int | None]) -> str:
    return " and ".join("no answer" if count is None else str(count) for count in counts)


def _asked(targets: tuple[Target, ...]) -> str:
    return " and ".join(f"{target.target_count} x {target.object_name}" for target in targets)


def slug(prompt: str) -> str:
    """A file name from a prompt: lower-case letters, digits and hyphens, at most 60 characters."""
    return re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:60].rstrip("-") or "picture"


def _seeds(options: argparse.Namespace) -> list[int]:
    seeds = list(dict.fromkeys(options.seed or [0]))
    if options.images is not None:
        if len(seeds) > 1:
            raise ValueError("--images counts up from one seed; give one --seed with it, or a range like --seed 0-3")
        if options.images > MAX_SEEDS:
            raise ValueError(f"--images must be at most {MAX_SEEDS}, got {options.images}; draw them in several runs")
        seeds = list(range(seeds[0], seeds[0] + options.images))
    if max(seeds) > MAX_SEED:
        raise ValueError(f"a seed must be from 0 to {MAX_SEED}, got {max(seeds)}; begin lower")
    return seeds
