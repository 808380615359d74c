"""`countgen learn-token`: learn a count token and save it."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.argument_types import positive
from app.exit_codes import INTERRUPTED, OK
from app.loading import available_device, hide_loading_bars

if TYPE_CHECKING:
    from countgen.token import Learning

_SETTINGS = ("num_vectors", "num_optimization_steps", "objects_per_step", "seeds_per_object", "patience", "seed")


def add_parser(commands: Any) -> None:
    """Add the command to the sub-parsers."""
    parser = commands.add_parser(
        "learn-token",
        help="learn a count token",
        description=(
            "Learn a token that says a number better than its word does, for use with generate --token. Interrupt it "
            "whenever you like: the best so far is saved, and the same command goes on from the checkpoint."
        ),
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.add_argument("count", type=positive, metavar="N", help="the number that the token shall say")
    parser.add_argument(
        "--object", action="append", required=True, metavar="NAME", help="a kind of object to learn on; repeatable"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to save it (count-N.safetensors)")
    parser.add_argument("--overwrite", action="store_true", help="replace a file of that name")
    parser.add_argument("--backbone", default="miniature", metavar="NAME", help="the model that draws (%(default)s)")
    parser.add_argument(
        "--critic", action="append", metavar="NAME", help="a detector that teaches; repeatable (the backbone's own)"
    )
    parser.add_argument("--judge", metavar="NAME", help="a detector of another kind (the backbone's own)")
    parser.add_argument("--loss", metavar="NAME", help="l1, d2d or margin")
    parser.add_argument("--learning-rate", type=float, metavar="X", help="of AdamW")
    for name in _SETTINGS:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, metavar="N", help="see countgen.token")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (CUDA where there is one)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run(options: argparse.Namespace) -> int:
    """Learn, save and report; returns the exit code.

    Raises:
        ValueError, OSError: bad input, found before any model is loaded wherever that is possible.
    """
    from countgen.images import check_writable
    from countgen.number_words import number_word
    from countgen.spliced import length_of
    from countgen.token import Learning, LearnSettings
    from countgen.token_file import SUFFIX, save_token
    from countgen.token_trial import try_token

    out = options.out or Path(f"count-{options.count}{SUFFIX}")
    if out.suffix != SUFFIX:
        raise ValueError(f"a token file ends with {SUFFIX}, got {out.name}")
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
    critics = tuple(options.critic) if options.critic else None
    models = countgen.load(options.backbone, critics=critics, judge=options.judge, device=device)
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
        print(f"{token.placeholder_token} after {learning.steps_made} steps, {said}\n  {out}")
        if plain is not None and token.accuracy is not None:
            print(f"  the judge finds {100 * token.accuracy:.0f} % right on new seeds, {100 * plain:.0f} % without it")
    return INTERRUPTED if interrupted else OK


def _is_of(learning: Learning, out: Path) -> bool:
    """Whether a file is what this learning left when it was interrupted, and not somebody's finished token."""
    from countgen.token_file import load_token

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
