"""The example that the page opens with: `python -m countgen.app.demo.example` makes it again.

One seed of the embedded model, whose plain image has five apples in place of seven, and the same seed after an edit.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import countgen
from countgen.app.demo.gallery import entry_of
from countgen.app.demo.generate_form import GenerateForm
from countgen.app.demo.result_view import HistoryEntry
from countgen.app.demo.session import GalleryEntry
from countgen.images import read_recipe

FILE = Path(__file__).with_name("example.json")
SEED = 199
"""The first seed whose plain image has five apples by critic and judge, and all of whose objects the edit keeps."""

FORM = GenerateForm("a photo of seven apples", method="edit", seed=SEED, seconds=5)
MAX_EVALUATIONS = 100
"""A limit of evaluations, not of seconds: every machine makes the same image."""

INTRODUCTION = "<p class='hint'>An example, made before: the same seed without and with countgen.</p>"


def make() -> GalleryEntry:
    """Return the example, generated."""
    models = countgen.load("miniature", device="cpu")
    run = countgen.Run(FORM.prompt, models, method="edit", seed=SEED, max_evaluations=MAX_EVALUATIONS)
    history = [HistoryEntry(step.counts, step.loss) for step in run]
    return entry_of(run.result(), history, FORM, timed=False)


def load() -> GalleryEntry:
    """Return the example from its file."""
    stored = json.loads(FILE.read_text(encoding="utf-8"))
    png = base64.b64decode(stored["png"])
    return GalleryEntry(
        **stored
        | {
            "png": png,
            "recipe": read_recipe(io.BytesIO(png)),
            "form": GenerateForm(**stored["form"]),
            "view": INTRODUCTION + stored["view"],
        }
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the example and write its file."""
    argparse.ArgumentParser(prog="python -m countgen.app.demo.example", description=__doc__).parse_args(arguments)
    entry = make()
    stored = {name: value for name, value in vars(entry).items() if name != "recipe"}
    stored |= {"png": base64.b64encode(entry.png).decode("ascii"), "form": asdict(entry.form)}
    FILE.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    print(f"{FILE.name}: {entry.title}, seed {entry.form.seed}, {FILE.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
