"""`countgen tokens`: the shipped count tokens and their measured accuracy."""

from __future__ import annotations

import argparse
import json
from typing import Any

from countgen.app.exit_codes import OK
from countgen.app.terminal import fitted


def add_parser(commands: Any) -> None:
    """Add the command to the sub-parsers."""
    parser = commands.add_parser(
        "tokens",
        help="list the shipped count tokens",
        description="List the count tokens that are shipped for a backbone, and their measured accuracy.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("--model", default="miniature", metavar="NAME", help="the preset of the tokens (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(options: argparse.Namespace) -> int:
    """Print one line per token; return the exit code.

    Raises:
        ValueError: the backbone is unknown, or a token file is damaged.
    """
    from countgen.backbones.registry import find
    from countgen.benchmarks.evaluation.token_records import RECORDS, direction_records, plain_accuracy, read
    from countgen.prompts.number_words import number_word
    from countgen.tokens.library import available_tokens

    find(options.model)
    tokens = available_tokens(options.model)
    if options.json:
        print(json.dumps({"backbone": options.model, "tokens": [_record(t) for t in tokens.values()]}))
    elif not tokens:
        print(fitted(f"no token is shipped for {options.model}; learn one with countgen learn-token"))
    else:
        measured = [*read(RECORDS), *read(direction_records(options.model))]
        for name, token in tokens.items():
            vectors = len(next(iter(token.vectors.values())))
            accuracy = "not measured" if token.accuracy is None else f"{100 * token.accuracy:.0f} % correct"
            records = [record for record in measured if record.token == token.sha256]
            if records:
                plain, alike = plain_accuracy(records, token.target_count)
                accuracy += f", baseline {100 * plain:.0f} %" + (" (the token equals the number word)" if alike else "")
            length = "1 vector" if vectors == 1 else f"{vectors} vectors"
            if token.direction is not None:
                start, offset = number_word(token.direction.start_number), token.direction.offset
                length = f"{start} moved by {offset:g} along the number axis"
            details = f"{length}, learned on {len(token.object_names)} object classes"
            print(fitted(f"{name:<9} {accuracy}; {details}", hang=10))
    return OK


def _record(token: Any) -> dict[str, Any]:
    fields = {key: value for key, value in vars(token).items() if key not in ("vectors", "direction")}
    direction = token.direction and {"start_number": token.direction.start_number, "offset": token.direction.offset}
    return {**fields, "direction": direction, "encoder_dims": token.encoder_dims, "sha256": token.sha256}
