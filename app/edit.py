"""`countgen edit`: the same image with another count."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from countgen.app.argument_types import positive, seconds
from countgen.app.detector_arguments import add_detectors, announced
from countgen.app.exit_codes import INTERRUPTED, NOT_REACHED, OK
from countgen.app.generate import SettingsHelp
from countgen.app.interrupts import held_interrupts, run_to_end
from countgen.app.loading import available_device
from countgen.app.model_arguments import add_calibration
from countgen.app.reproduce import add_origin, checked_recipe, loaded, token_of
from countgen.app.result_lines import record_of, report
from countgen.app.terminal import fitted


def add_parser(commands: Any) -> None:
    """Add the command to the sub-parsers."""
    parser = commands.add_parser(
        "edit",
        help="change the count of an image",
        description="Change how many objects an image of ours shows, and keep the rest: the other objects and the "
        "background. Everything but the counts comes from the recipe inside the image.",
    )
    parser.set_defaults(run=run, method="edit")
    parser.add_argument("image", type=Path, metavar="IMAGE.png", help="an image that countgen wrote")
    parser.add_argument(
        "counts", metavar="NAME=N[,NAME=N]", help="how many are wanted, such as apple=7; other objects keep their count"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the method, such as learning_rate=0.1; repeatable",
    )
    parser.add_argument("--help-settings", action=SettingsHelp, help="list the settings and exit")
    add_detectors(parser)
    parser.add_argument(
        "--token", metavar="NAME|FILE", help="the count token the image was made with, where it is not a shipped one"
    )
    add_calibration(parser)
    add_origin(parser)
    parser.add_argument(
        "--until",
        choices=("critic", "judge"),
        default="critic",
        help="who must agree before the work ends (%(default)s)",
    )
    parser.add_argument("--max-seconds", type=seconds, metavar="S", help="time limit (none)")
    parser.add_argument("--max-steps", type=positive, metavar="N", help="limit of steps (none)")
    parser.add_argument("--max-evaluations", type=positive, metavar="N", help="limit of model evaluations (none)")
    parser.add_argument(
        "--out", type=Path, metavar="FILE.png", help="of the result, under a free name (IMAGE-edited.png)"
    )
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (CUDA where there is one)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run(options: argparse.Namespace) -> int:
    """Edit, write, report, and return the exit code.

    Raises:
        RecipeError: no readable image of ours, or a recipe that cannot be rendered.
        ValueError, OSError: other bad input, found before a model is loaded wherever that is possible.
    """
    from countgen.editing import targets_of
    from countgen.images import check_writable, read_png, save_png
    from countgen.methods.edit import EditSettings
    from countgen.methods.settings import with_text
    from countgen.number_slider import load_calibration
    from countgen.prompts import targets_from

    image, recipe = read_png(options.image)
    counts = {target.object_name: target.target_count for target in targets_from(options.counts)}
    settings = with_text(EditSettings(), options.set)
    calibration = load_calibration(options.calibration) if options.calibration else None
    out = options.out or options.image.with_stem(f"{options.image.stem}-edited")
    if out.suffix.lower() != ".png":
        raise ValueError(f"--out {out} must end in .png: the recipe travels inside a PNG")
    check_writable(out.parent)
    token = token_of(options.token, recipe)
    checked = checked_recipe(recipe, options, token, image.size)
    objects = [target.object_name for target in targets_of(recipe)]
    device = available_device(options.device)

    from countgen.detector_choice import AUTO
    from countgen.editing import edit_run
    from countgen.files.printable import printable
    from countgen.models import Detectors

    text = not options.json and not options.quiet
    announce = announced(text=text, download=options.yes)
    detectors = Detectors(checked.name, objects, options.critic, options.judge or AUTO, announce)
    models = detectors.join(loaded(checked, device, options), options.trust_checkpoint)
    current = edit_run(
        recipe,
        models,
        counts=counts,
        settings=settings,
        max_seconds=options.max_seconds,
        max_evaluations=options.max_evaluations,
        until=options.until,
        token=token,
        calibration=calibration,
    )
    interrupted = run_to_end(current, options, f"edit {printable(options.image.name, 60)}")
    if current.best is None:  # interrupted before the first candidate
        return INTERRUPTED
    with held_interrupts() as interrupt:
        result = current.result()
        record = record_of(result, options.image, save_png(result.image, out, result.recipe))
    interrupted |= interrupt.asked
    record["prompt"] = current.prompt
    if options.json:
        print(json.dumps(record | {"interrupted": interrupted}))
    elif text:
        print(fitted(f"prompt: {current.prompt}"))
        report(record, preservation=True)
    if interrupted:
        return INTERRUPTED
    return OK if result.verified else NOT_REACHED
