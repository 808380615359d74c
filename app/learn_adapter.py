"""`countgen learn-adapter`: train a noise adapter and save it."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from countgen.app.argument_types import count_range, not_negative, one_seed, positive, rate, seconds, weight
from countgen.app.exit_codes import INTERRUPTED, OK
from countgen.app.terminal import fitted
from countgen.app.training_command import (
    SUFFIX,
    add_training,
    check_output,
    check_unfinished,
    given_settings,
    load_models,
    train,
)

SETTINGS = (
    ("num_optimization_steps", not_negative, "N", "maximum number of steps (3000)"),
    ("learning_rate", rate, "X", "learning rate, above 0; it rises in the first steps and falls to the end (0.0004)"),
    ("displacement_weight", weight, "X", "weight of the squared distance by which latents are moved (0.002)"),
    ("objects_per_step", positive, "N", "prompts per step, each of one object class and one count (2)"),
    ("seeds_per_object", positive, "N", "images per prompt in a step; more reduce noise and are slower (4)"),
    ("validate_every", positive, "N", "steps between validations (100)"),
    ("validation_pictures", positive, "N", "images of each validation (120)"),
    ("patience", positive, "N", "validations without improvement before the training ends (10)"),
    ("channels", positive, "N", "of the network's layers, a multiple of 8 (32)"),
    ("seed", one_seed, "N", "random seed; the same seed and number of steps give the same adapter (0)"),
)
"""Name in `AdapterSettings`, type, placeholder, and help with the default of `AdapterSettings`."""


def add_parser(commands: Any) -> None:
    """Add the command to the sub-parsers."""
    parser = commands.add_parser(
        "learn-adapter",
        help="learn a noise adapter",
        description=(
            "Train a small network that moves the initial noise of a prompt so that its count is right more often, "
            "for use with generate --adapter: once for a model, then at no further evaluations. After an interruption "
            "the best adapter so far is saved, and the same command resumes."
        ),
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "--counts", type=count_range, default=(3, 12), metavar="A-B", help="smallest and largest count (3-12)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path(f"adapter{SUFFIX}"), metavar="FILE", help="the file to write (%(default)s)"
    )
    parser.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="written after every step (OUT.checkpoint.safetensors)"
    )
    parser.add_argument(
        "--seconds",
        dest="max_seconds",
        type=seconds,
        metavar="S",
        help="end after so many seconds, those before an interruption included (no limit)",
    )
    add_training(parser, SETTINGS, what="adapter", loss="margin", trial_images=120)
    parser.add_argument(
        "--class-agnostic",
        dest="reads_prompt",
        action="store_false",
        default=None,
        help="do not read the prompt: the same noise is moved alike for all object classes",
    )
    for name, said in (
        ("sees-sample", "let the network read what the noise is denoised to: one more evaluation for every image"),
        ("bfloat16", "compute the steps under autocast to bfloat16, which is faster on many processors"),
    ):
        parser.add_argument(f"--{name}", action="store_true", default=None, help=said)


def run(options: argparse.Namespace) -> int:
    """Train an adapter, save it and print its accuracy; return the exit code.

    Raises:
        ValueError, OSError: bad input, reported before any model is loaded if possible.
    """
    from countgen.adapters.file import load_adapter, save_adapter
    from countgen.adapters.settings import AdapterSettings
    from countgen.adapters.training import AdapterTraining, try_adapter

    out: Path = options.out
    checkpoint = options.checkpoint or out.with_suffix(f".checkpoint{SUFFIX}")
    check_output(out, checkpoint, options.overwrite)
    settings = given_settings(AdapterSettings, options)
    silent = options.quiet or options.json
    models = load_models(options, options.object)
    training = AdapterTraining(models, options.object, options.counts, settings, checkpoint)
    check_unfinished(out, training.adapter, load_adapter, overwrite=options.overwrite)
    interrupted = train(
        training,
        {"train": ("count loss", settings.num_optimization_steps)},
        lambda: save_adapter(training.adapter, out, overwrite=True),
        silent=silent,
    )
    adapter = training.adapter
    if options.trial_images and not interrupted:
        accuracy, plain = try_adapter(models, adapter, options.trial_images)
        adapter = replace(adapter, accuracy=accuracy, plain_accuracy=plain)
        save_adapter(adapter, out, overwrite=True)
    if not interrupted:
        checkpoint.unlink(missing_ok=True)
    state = training.state
    first, best = (state.validations[0], state.best_validation) if state.validations else (None, None)
    record = {
        "adapter": str(out),
        "steps": state.step,
        "seconds": round(state.seconds, 1),
        "evaluations": state.evaluations,
        "validation_accuracy": best and best.accuracy,
        "initial_validation_accuracy": first and first.accuracy,
        "accuracy": adapter.accuracy,
        "plain_accuracy": adapter.plain_accuracy,
        "interrupted": interrupted,
    }
    if options.json:
        print(json.dumps(record))
    elif not options.quiet:
        _report(record)
    return INTERRUPTED if interrupted else OK


def _report(record: dict[str, Any]) -> None:
    from countgen.files.printable import printable

    validation = "not validated"
    if record["validation_accuracy"] is not None:
        correct, before = (100 * record[name] for name in ("validation_accuracy", "initial_validation_accuracy"))
        validation = f"{correct:.0f} % correct by the critics, {before:.0f} % before"
    print(fitted(f"adapter after {record['steps']} steps in {record['seconds']:.0f} s, {validation}"))
    print(f"  {printable(record['adapter'])}")
    if record["accuracy"] is not None:
        judged = f"{100 * record['accuracy']:.0f} % correct, baseline {100 * record['plain_accuracy']:.0f} %"
        print(fitted(f"  on new seeds, by the judge: {judged}", hang=4))
