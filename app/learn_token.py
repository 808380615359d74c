"""`countgen learn-token`: learn a count token and save it."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.argument_types import add_trust_checkpoint, not_negative, one_seed, positive, rate, weight
from app.detector_arguments import chosen_detectors
from app.exit_codes import INTERRUPTED, OK
from app.loading import available_device, hide_loading_bars
from app.model_arguments import add_loading, add_model, asked_of_load
from app.terminal import fitted

if TYPE_CHECKING:
    from countgen.tokens.trainer import Learning

LOSSES = ("l1", "d2d", "margin")
"""Of `critics.losses`, which a parser cannot ask: torch takes seconds to load."""

SETTINGS = (
    ("learning_rate", rate, "X", "of the gradient steps, above 0; too high a rate spoils the token (0.0005)"),
    ("semantic_weight", weight, "X", "how much the object must stay recognisable; 0 for not at all (0.5)"),
    ("num_vectors", positive, "N", "length of the token in words of the text encoder, 1 to 32 (the number word's)"),
    ("num_optimization_steps", not_negative, "N", "gradient steps at most; 0 only looks for a good start (60)"),
    ("objects_per_step", positive, "N", "kinds of object in each step, drawn at random from all --object (8)"),
    ("seeds_per_object", positive, "N", "pictures of each kind in a step; more are steadier and slower (2)"),
    ("patience", positive, "N", "checks in a row, one every 10 steps, that may bring no progress before it ends (3)"),
    ("seed", one_seed, "N", "of the random draws; the same seed learns the same token (0)"),
)
"""Name in `LearnSettings`, type, placeholder and help, with the default there."""


def add_parser(commands: Any) -> None:
    """Add the command to the sub-parsers."""
    parser = commands.add_parser(
        "learn-token",
        help="learn a count token",
        description=(
            "Learn a token that says a number better than its word does, for use with generate --token. Interrupt it "
            "whenever you like: the best so far is saved, and the same command goes on from the checkpoint."
        ),
    )
    parser.set_defaults(run=run)
    parser.add_argument("count", type=positive, metavar="N", help="how many objects the token shall stand for")
    parser.add_argument(
        "--object",
        action="append",
        required=True,
        metavar="NAME",
        help="a kind of object to learn on, such as apple; repeatable, several make it general",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="where to save it, a .safetensors file (count-N.safetensors)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a finished token of that name")
    add_model(parser)
    add_loading(parser)
    parser.add_argument(
        "--critic",
        action="append",
        metavar="NAME",
        help=(
            "a detector that teaches, or 'DETECTOR by DENSITY': counts of the one, a gradient of the other; "
            "repeatable (the backbone's own)"
        ),
    )
    parser.add_argument(
        "--judge", metavar="NAME", help="a detector that only tests the finished token (the backbone's own)"
    )
    add_trust_checkpoint(parser)
    parser.add_argument(
        "--loss",
        choices=LOSSES,
        help=(
            "what is made small: l1, the miscount; d2d or margin, by how far it is missed; a DENSITY has a loss of its "
            "own (l1)"
        ),
    )
    for name, kind, metavar, said in SETTINGS:
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=said)
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (CUDA where there is one)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run(options: argparse.Namespace) -> int:
    """Learn, save and report; returns the exit code.

    Raises:
        ValueError, OSError: bad input, found before any model is loaded wherever that is possible.
    """
    from countgen.images import check_writable
    from countgen.printable import printable
    from countgen.prompts.number_words import number_word
    from countgen.tokens.file import SUFFIX, save_token
    from countgen.tokens.textual_inversion import length_of
    from countgen.tokens.trainer import Learning, LearnSettings
    from countgen.tokens.trial import try_token

    out = options.out or Path(f"count-{options.count}{SUFFIX}")
    if out.suffix != SUFFIX:
        raise ValueError(f"a token file ends with {SUFFIX}, got {out.name}")
    if out.is_dir():
        raise ValueError(f"{out} is a folder; give --out the name of a file")
    checkpoint = out.with_suffix(".checkpoint.safetensors")
    taken = ValueError(f"{out} is there already; give another --out, or --overwrite")
    if out.exists() and not options.overwrite and not checkpoint.exists():
        raise taken
    check_writable(out.parent)
    given = {field.name: getattr(options, field.name, None) for field in fields(LearnSettings)}
    settings = LearnSettings(**{name: value for name, value in given.items() if value is not None})
    device = available_device(options.device)

    import countgen

    if options.quiet or options.json or not sys.stderr.isatty():
        hide_loading_bars()
    choice = chosen_detectors(options, options.object, text=not options.quiet and not options.json)
    models = countgen.load(
        options.model,
        critics=choice.critics,
        judge=choice.judge,
        because=choice.because,
        device=device,
        trust_checkpoint=options.trust_checkpoint,
        **asked_of_load(options),
    )
    if options.num_vectors is None:
        settings = replace(settings, num_vectors=length_of(number_word(options.count), models.backbone))
    learning = Learning(models, options.count, options.object, settings, checkpoint=checkpoint)
    if out.exists() and not options.overwrite and not _is_of(learning, out):
        raise taken
    interrupted = _learn(learning, silent=options.quiet or options.json)
    token, plain = learning.token, None
    if not interrupted:
        accuracy, plain = try_token(models, token)
        token = replace(token, accuracy=accuracy)
    save_token(token, out, overwrite=True)
    if not interrupted:
        checkpoint.unlink(missing_ok=True)
    validated = learning.best_validation.accuracy if learning.validations else None
    record = {
        "token": str(out),
        "placeholder_token": token.placeholder_token,
        "steps": learning.steps_made,
        "evaluations": learning.state.evaluations,
        "validation_accuracy": validated,
        "accuracy": token.accuracy,
        "plain_accuracy": plain,
        "interrupted": interrupted,
    }
    if options.json:
        print(json.dumps(record))
    elif not options.quiet:
        said = "not validated" if validated is None else f"the critics find {100 * validated:.0f} % right"
        print(fitted(f"{token.placeholder_token} after {learning.steps_made} steps, {said}"))
        print(f"  {printable(out)}")
        if plain is not None and token.accuracy is not None:
            tried = f"{100 * token.accuracy:.0f} % right on new seeds, {100 * plain:.0f} % without it"
            print(fitted(f"  the judge finds {tried}", hang=4))
    return INTERRUPTED if interrupted else OK


def _is_of(learning: Learning, out: Path) -> bool:
    """Whether a file is what this learning left when it was interrupted, and not somebody's finished token."""
    from countgen.tokens.file import load_token

    there, ours = load_token(out), learning.token
    facts = ("target_count", "base_model", "object_names", "critic", "config_hash", "accuracy")
    return all(getattr(there, name) == getattr(ours, name) for name in facts)


def _learn(learning: Learning, *, silent: bool) -> bool:
    """Work until the learning ends; True where the user interrupted it."""
    from tqdm import tqdm

    # disable=None: no bar where standard error is no terminal.
    try:
        total, made = learning.most_steps, learning.steps_made
        with tqdm(total=total, initial=made, unit="step", disable=silent or None, leave=False) as bar:
            for step in learning:
                bar.set_postfix_str(f"loss {step.loss:.2f} soft count {step.soft_counts[0]:.1f}", refresh=False)
                bar.update()
    except KeyboardInterrupt:
        return True
    return False
