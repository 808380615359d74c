"""`countgen generate`: from a prompt to images with the right count, before and after."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countgen import methods
from countgen.app.argument_types import (
    MAX_SEED,
    MAX_SEEDS,
    positive,
    seconds,
    seeds_in,
)
from countgen.app.detector_arguments import add_detectors, announced, detectors_of
from countgen.app.exit_codes import INTERRUPTED, NOT_REACHED, OK
from countgen.app.image_files import DEFAULT_TEMPLATE, FIELDS, name_template, save_grid, save_result
from countgen.app.interrupts import held_interrupts, run_to_end
from countgen.app.loading import available_device
from countgen.app.model_arguments import (
    add_calibration,
    add_loading,
    add_model,
    add_negative_prompt,
    add_sampling,
    asked_of_load,
)
from countgen.app.result_lines import report
from countgen.app.terminal import fitted

if TYPE_CHECKING:
    from countgen import Models, Run


def add_parser(commands: Any) -> None:
    """Add the command to the sub-parsers."""
    parser = commands.add_parser(
        "generate",
        help="generate images",
        description="Generate images of a prompt such as 'a photo of seven apples', each before and after steering.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("prompt", metavar="PROMPT", help="what to generate, with the count in words or digits")
    parser.add_argument(
        "--method",
        choices=methods.available(),
        default="auto",
        metavar="NAME",
        help=f"one of {', '.join(methods.available())} (%(default)s)",
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
        "written (search, auto and edit: the calibrated one where no number word reaches the count)",
    )
    add_calibration(parser)
    add_model(parser)
    add_loading(parser)
    add_sampling(parser)
    add_negative_prompt(parser)
    add_detectors(parser)
    parser.add_argument(
        "--seed",
        action="extend",
        type=seeds_in,
        metavar="N|A-B",
        help="a seed or a range; -1 for a random one; repeatable (0)",
    )
    parser.add_argument("--images", type=positive, metavar="N", help="images from consecutive seeds (1)")
    parser.add_argument("--grid", action="store_true", help="also write all images as one")
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
    parser.add_argument("--max-seconds", type=seconds, metavar="S", help="time limit for each image (none)")
    parser.add_argument("--max-steps", type=positive, metavar="N", help="limit of steps for each image (none)")
    parser.add_argument(
        "--max-evaluations",
        type=positive,
        metavar="N",
        help="limit of model evaluations for each image (400; none with --max-seconds)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("images"), metavar="FOLDER", help="of the images (%(default)s)"
    )
    parser.add_argument(
        "--name",
        type=name_template,
        default=DEFAULT_TEMPLATE,
        metavar="TEMPLATE",
        help=f"name of each file, from {', '.join(f'{{{field}}}' for field in FIELDS)} (%(default)s)",
    )
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (CUDA where there is one)")
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
    """Generate, write and report every image; return the exit code.

    Raises:
        ValueError, OSError: bad input, found before any model is loaded wherever that is possible.
    """
    from countgen.images import check_writable
    from countgen.methods.settings import with_text
    from countgen.number_slider import load_calibration
    from countgen.number_slider.shifts import number_offset_from
    from countgen.prompts import check_prompt, parse, targets_from

    seeds = _seeds(options)
    check_writable(options.out)
    check_prompt(options.prompt)
    targets = targets_from(",".join(options.count)) if options.count else None
    # An unreadable prompt is refused before the models are loaded.
    objects = [target.object_name for target in targets or parse(options.prompt)]
    given: dict[str, Any] = {
        "targets": targets,
        "method": options.method,
        "settings": with_text(methods.load(options.method).settings_class(), options.set),
        "max_seconds": options.max_seconds,
        "max_evaluations": options.max_evaluations,
        "until": options.until,
        "negative_prompt": options.negative_prompt,
    }
    if options.token is not None:
        from countgen.backbones.sources import find_source
        from countgen.tokens.library import find_token

        given["token"] = find_token(options.token, find_source(options.model).name)
    given["number_offset"] = number_offset_from(options.number_offset)
    given["calibration"] = load_calibration(options.calibration) if options.calibration else None
    models = _loaded(options, objects)

    import countgen

    text = not options.json and not options.quiet
    records: list[dict[str, Any]] = []
    interrupted = False
    for seed in seeds:
        current = countgen.Run(options.prompt, models, seed=seed, **given)
        if text and not records:
            _report_shifts(current)
        interrupted = run_to_end(current, options, f"seed {seed}")
        if current.best is None:  # interrupted before the first candidate
            break
        with held_interrupts() as interrupt:
            result = current.result()
            records.append(save_result(result, options.out, options.name))
        interrupted |= interrupt.asked
        if text:
            report(records[-1])
            if why := current.why_replaced(result):
                print(fitted(f"  the image before was right by the judge already. {why}", hang=4))
        if interrupted:
            break
    right = sum(record["verified"] for record in records)
    grid = save_grid([Path(record["after"]) for record in records]) if options.grid and records else None
    if options.json:
        summary = {"prompt": options.prompt, "images": records, "right": right, "interrupted": interrupted}
        print(json.dumps(summary | ({"grid": str(grid)} if grid else {})))
    elif text:
        _report_all(records, grid)
    if interrupted:
        return INTERRUPTED
    return OK if right == len(seeds) else NOT_REACHED


def _report_all(records: Sequence[dict[str, Any]], grid: Path | None) -> None:
    """Print how many of several images are right, and where all of them are in one."""
    if len(records) > 1:
        right = sum(record["verified"] for record in records)
        print(fitted(f"the judge agrees with {right} of {len(records)} images"))
    if grid:
        print(fitted("grid ->", path=str(grid)))


def _loaded(options: argparse.Namespace, objects: Sequence[str]) -> Models:
    """Load the model and its detectors, and print what they are.

    Raises:
        ValueError, OSError: as `countgen.load`.
    """
    device = available_device(options.device)

    import countgen
    from countgen.files.printable import printable

    text = not options.json and not options.quiet
    models = countgen.load(
        options.model,
        objects=objects,
        device=device,
        draft=options.draft,
        progress=text,
        announce=announced(text=text),
        **detectors_of(options),
        **asked_of_load(options),
    )
    if text and not options.model.startswith("miniature"):
        backbone = models.backbone
        sampled = f"{backbone.num_inference_steps} steps, guidance {backbone.guidance_scale:g}"
        print(fitted(f"{printable(backbone.name)}: {sampled}, {backbone.chosen}; licence: {backbone.preset.licence}"))
    if text and options.size and (warning := _size_warning(options)):
        print(fitted(f"warning: {warning}"), file=sys.stderr)
    return models


def _size_warning(options: argparse.Namespace) -> str:
    """Return what to expect of a size that is far from the model's own; empty where it is near."""
    from countgen.backbones.sources import find_source

    own = find_source(options.model).preset
    width, height = options.size
    larger = width * height / (own.width * own.height)
    if 0.5 <= larger <= 2 and max(width, height) <= 2 * min(width, height):
        return ""
    expected = "objects that are cut or malformed"
    if larger > 1:
        expected = f"objects that are repeated, and {larger:.2g} times the time or more for each evaluation"
    return f"{options.model} is made for {own.width}x{own.height}: at {width}x{height} expect {expected}"


def _report_shifts(current: Run) -> None:
    """Print how the prompt embeddings are moved along the number axis, where they are."""
    from countgen.prompts.number_words import number_word

    for shift in current.shifts:
        moved = f"the prompt embeddings of {number_word(shift.number)}, moved by {shift.offset:+g} objects"
        print(fitted(f"{shift.object_name}: {moved}; --number-offset 0 for the prompt as written", hang=4))


def _seeds(options: argparse.Namespace) -> list[int]:
    seeds = list(dict.fromkeys(options.seed or [0]))
    if options.images is not None:
        if len(seeds) > 1:
            raise ValueError("--images counts up from one seed; give one --seed with it, or a range like --seed 0-3")
        if options.images > MAX_SEEDS:
            raise ValueError(
                f"--images must be at most {MAX_SEEDS}, got {options.images}; generate them in several runs"
            )
        seeds = list(range(seeds[0], seeds[0] + options.images))
    if max(seeds) > MAX_SEED:
        raise ValueError(f"a seed must be from 0 to {MAX_SEED}, got {max(seeds)}; begin lower")
    return seeds
