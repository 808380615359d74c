"""`countgen learn-token`: learn a count token and save it."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countgen.app.argument_types import not_negative, one_seed, positive, rate, weight
from countgen.app.exit_codes import INTERRUPTED, OK
from countgen.app.model_arguments import add_calibration
from countgen.app.terminal import fitted
from countgen.app.training_command import (
    SUFFIX,
    add_training,
    check_output,
    check_unfinished,
    given_settings,
    load_models,
    option_of,
    taken,
    train,
)

if TYPE_CHECKING:
    from countgen.models import Models
    from countgen.number_slider import Calibration
    from countgen.tokens.file import CountToken

SETTINGS = (
    ("learning_rate", rate, "X", "learning rate, above 0; the token gets worse with a high rate (0.0005)"),
    ("semantic_weight", weight, "X", "weight of the loss that keeps the object recognisable; 0 for none (0.5)"),
    (
        "num_vectors",
        not_negative,
        "N",
        "embedding vectors of the token, up to 32; 0 for as many as the number word has (0)",
    ),
    (
        "num_optimization_steps",
        not_negative,
        "N",
        "maximum number of steps on the count loss, after the distillation; 0 for the distillation only (60)",
    ),
    ("distillation_steps", not_negative, "N", "number of steps of the distillation; 0 for the count loss only (25)"),
    (
        "validation_images",
        positive,
        "N",
        "images of each validation, which the critics count; fewer are faster and choose worse (48)",
    ),
    ("objects_per_step", positive, "N", "object classes per step, sampled from all --object (8)"),
    ("seeds_per_object", positive, "N", "images per object class in a step; more reduce noise and are slower (2)"),
    ("patience", positive, "N", "validations, one every 10 steps, without improvement before the training ends (3)"),
    ("seed", one_seed, "N", "random seed; the same seed learns the same token (0)"),
)
"""Name in `LearnSettings`, type, placeholder, and help with the default of `LearnSettings`."""


def add_parser(commands: Any) -> None:
    """Add the command to the sub-parsers."""
    parser = commands.add_parser(
        "learn-token",
        help="learn a count token",
        description=(
            "Learn a token that gives more accurate counts than the number word, for use with generate --token. First "
            "--distillation-steps steps distil it from prompts that count better, then --num-optimization-steps steps "
            "minimise the count loss. After an interruption the best token so far is saved, and the same command "
            "resumes. A count that no number word of the model reaches, by its calibration, is not learned but gets a "
            "direction of the prompt embeddings."
        ),
    )
    parser.set_defaults(run=run)
    parser.add_argument("count", type=positive, metavar="N", help="the number of objects that the token stands for")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the .safetensors file to write (count-N.safetensors)")
    add_training(parser, SETTINGS, loss="l1", trial_images=32)
    add_calibration(parser)


def run(options: argparse.Namespace) -> int:
    """Learn a token, save it and print its accuracy; return the exit code.

    Raises:
        ValueError, OSError: bad input, reported before any model is loaded if possible.
    """
    from countgen.files.printable import printable
    from countgen.number_slider import find_calibration, load_calibration
    from countgen.tokens.file import load_token, save_token
    from countgen.tokens.settings import LearnSettings
    from countgen.tokens.trainer import Learning
    from countgen.tokens.trial import try_token

    out = options.out or Path(f"count-{options.count}{SUFFIX}")
    checkpoint = out.with_suffix(f".checkpoint{SUFFIX}")
    check_output(out, checkpoint, options.overwrite)
    calibration = load_calibration(options.calibration) if options.calibration else None
    settings = given_settings(LearnSettings, options)
    models = load_models(options, options.object)
    if calibration is not None:
        calibration.check(models.backbone)
    calibration = calibration or find_calibration(models.backbone)
    if calibration is not None and calibration.replacement_for(options.count) is not None:
        if out.exists() and not options.overwrite:
            raise taken(out)
        return _make_direction(models, calibration, out, options)
    learning = Learning(models, options.count, options.object, settings, checkpoint=checkpoint)
    check_unfinished(out, learning.token, load_token, overwrite=options.overwrite)
    bars = {
        "distill": ("distillation", settings.distillation_steps),
        "train": ("count loss", settings.num_optimization_steps),
    }
    interrupted = train(
        learning,
        bars,
        lambda: save_token(learning.token, out, overwrite=True),
        silent=options.quiet or options.json,
    )
    token, plain = learning.token, None
    if options.trial_images and not interrupted:
        accuracy, plain = try_token(models, token, options.trial_images)
        token = replace(token, accuracy=accuracy)
        save_token(token, out, overwrite=True)
    if not interrupted:
        checkpoint.unlink(missing_ok=True)
    state = learning.state
    validated = state.best_validation.accuracy if state.validations else None
    record = {
        "token": str(out),
        "placeholder_token": token.placeholder_token,
        "steps": state.distillation_steps + state.step,
        "distillation_steps": state.distillation_steps,
        "optimization_steps": state.step,
        "evaluations": state.evaluations,
        "validation_accuracy": validated,
        "accuracy": token.accuracy,
        "plain_accuracy": plain,
        "interrupted": interrupted,
    }
    if options.json:
        print(json.dumps(record))
    elif not options.quiet:
        validation = "not validated" if validated is None else f"{100 * validated:.0f} % correct by the critics"
        made = f"{state.distillation_steps} distillation steps and {state.step} steps on the count loss"
        print(fitted(f"{token.placeholder_token} after {made}, {validation}"))
        print(f"  {printable(out)}")
        _report_trial(token, plain)
    return INTERRUPTED if interrupted else OK


def _make_direction(models: Models, calibration: Calibration, out: Path, options: argparse.Namespace) -> int:
    """Make a token with a number direction, save it and print its accuracy; return the exit code.

    Raises:
        ValueError: the calibration does not reach the count, or an option of the training was given.
    """
    from countgen.files.printable import printable
    from countgen.number_slider.learning import direction_token
    from countgen.prompts import Target
    from countgen.prompts.number_words import number_word
    from countgen.tokens.file import save_token
    from countgen.tokens.trial import try_token

    given = [name for name in ("loss", *(name for name, *_ in SETTINGS)) if getattr(options, name) is not None]
    if given:
        raise ValueError(
            f"{calibration.backbone} follows number words up to {number_word(calibration.hi)}, so the token of "
            f"{options.count} is a direction of the prompt embeddings, which is not trained: leave out "
            f"{option_of(given[0])}"
        )
    for name in options.object:
        models.check((Target(name, options.count),))
    token = direction_token(models.backbone, options.count, options.object, calibration)
    save_token(token, out, overwrite=options.overwrite)
    plain = None
    if options.trial_images:
        accuracy, plain = try_token(models, token, options.trial_images)
        token = replace(token, accuracy=accuracy)
        save_token(token, out, overwrite=True)
    assert token.direction is not None
    start, offset = token.direction.start_number, token.direction.offset
    record = {
        "token": str(out),
        "placeholder_token": token.placeholder_token,
        "start_number": start,
        "offset": offset,
        "accuracy": token.accuracy,
        "plain_accuracy": plain,
    }
    if options.json:
        print(json.dumps(record))
    elif not options.quiet:
        print(fitted(f"{token.placeholder_token}: {number_word(start)} moved by {offset:g} along the number axis"))
        print(f"  {printable(out)}")
        _report_trial(token, plain)
    return OK


def _report_trial(token: CountToken, plain: float | None) -> None:
    """Print how often the judge counts right with the token and with the number word, where it was asked."""
    if plain is not None and token.accuracy is not None:
        judged = f"{100 * token.accuracy:.0f} % correct, baseline {100 * plain:.0f} %"
        print(fitted(f"  on new seeds, by the judge: {judged}", hang=4))
