"""`countgen adapters`: the shipped noise adapters and their measured accuracy."""

from __future__ import annotations

import argparse
import json
from typing import Any

from countgen.app.exit_codes import OK
from countgen.app.terminal import fitted


def add_parser(commands: Any) -> None:
    """Add the command to the sub-parsers."""
    parser = commands.add_parser(
        "adapters",
        help="list the shipped noise adapters",
        description="List the noise adapters that are shipped for a model, and their measured accuracy.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("--model", default="miniature", metavar="NAME", help="the preset of the adapters (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(options: argparse.Namespace) -> int:
    """Print one line per adapter; return the exit code.

    Raises:
        ValueError: the model is unknown, or an adapter file is damaged.
    """
    from countgen.adapters.library import available_adapters
    from countgen.backbones.registry import find

    find(options.model)
    adapters = available_adapters(options.model)
    if options.json:
        records = [_record(name, adapter) for name, adapter in adapters.items()]
        print(json.dumps({"model": options.model, "adapters": records}))
    elif not adapters:
        print(fitted(f"no noise adapter is shipped for {options.model}; learn one with countgen learn-adapter"))
    for name, adapter in adapters.items() if not options.json else ():
        accuracy = "not measured"
        if adapter.accuracy is not None and adapter.plain_accuracy is not None:
            accuracy = f"{100 * adapter.accuracy:.0f} % correct, baseline {100 * adapter.plain_accuracy:.0f} %"
        smallest, largest = adapter.config.counts
        details = f"counts {smallest} to {largest}, learned on {len(adapter.object_names)} object classes"
        print(fitted(f"{name}: {accuracy}; {details}", hang=4))
    return OK


def _record(name: str, adapter: Any) -> dict[str, Any]:
    from countgen.adapters.file import facts_of

    return {"name": name, **facts_of(adapter), "sha256": adapter.sha256}
