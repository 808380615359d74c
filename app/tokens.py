"""`countgen tokens list`: the shipped count tokens and their measured accuracy."""

import json
from typing import Any

from countgen.app.arguments import Tokens
from countgen.app.exit_codes import OK
from countgen.app.terminal import fitted
from countgen.backbones.registry import find
from countgen.benchmarks.evaluation.token_records import plain_accuracy, records_of
from countgen.tokens import CountToken, available_tokens


def run(command: Tokens) -> int:
    """Print the tokens."""
    find(command.model)
    tokens = available_tokens(command.model)
    if command.json:
        print(json.dumps({"backbone": command.model, "tokens": [_record(token) for token in tokens.values()]}))
        return OK
    if not tokens:
        print(fitted(f"no token is shipped for {command.model}; train one with countgen tokens learn"))
    for name, token in tokens.items():
        print(fitted(f"{name:<9} {_described(token)}", hang=10))
    return OK


def _described(token: CountToken) -> str:
    accuracy = "not measured" if token.accuracy is None else f"{100 * token.accuracy:.0f} % correct"
    if records := records_of(token):
        plain, alike = plain_accuracy(records, token.target_count)
        accuracy += f", baseline {100 * plain:.0f} %" + (" (the token equals the number word)" if alike else "")
    vectors = len(next(iter(token.vectors.values())))
    kind = "1 vector" if vectors == 1 else f"{vectors} vectors"
    return f"{accuracy}; {kind}, learned on {len(token.object_names)} object classes"


def _record(token: CountToken) -> dict[str, Any]:
    fields = {key: value for key, value in vars(token).items() if key != "vectors"}
    return {**fields, "encoder_dims": token.encoder_dims, "sha256": token.sha256}
