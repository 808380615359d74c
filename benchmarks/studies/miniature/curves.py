"""Learning curves of trainings: `python -m benchmarks.studies.miniature.curves [NAME=RUN_FOLDER ...]`.

Plots the committed curves; run folders of `countgen.miniature.training` replace them by those runs' first.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from itertools import cycle, groupby
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from benchmarks.evaluation.plots import COLOURS, STYLE, save
from countgen.miniature.training.loop import METRICS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECORD = Path("benchmarks") / "results" / "sharpening.json"
FIGURE = Path("docs") / "figures" / "sharpening.svg"
LOSSES = ("latents", "features")
ITERATIONS = 50
"""A point is the mean of the logged iterations in each span of this length."""

Curve = Mapping[str, Sequence[float]]


def curve(run: Path) -> Curve:
    """Return iterations and mean losses of a run.

    Raises:
        OSError: the folder has no log.
        ValueError: the log has no such losses.
    """
    log = [json.loads(line) for line in (run / METRICS).read_text().splitlines()]
    log = [record for record in log if all(name in record for name in LOSSES)]
    if not log:
        raise ValueError(f"{run / METRICS} holds no {' and '.join(LOSSES)}: give a run of student or sharpen")
    points = [list(same) for _, same in groupby(log, lambda record: (record["iteration"] - 1) // ITERATIONS)]
    means = {name: [round(fmean(record[name] for record in point), 4) for point in points] for name in LOSSES}
    return {"iteration": [point[-1]["iteration"] for point in points], **means}


def figure(curves: Mapping[str, Curve]) -> Figure:
    """Return the distance of features, a line per training."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        page = Figure(figsize=(6.4, 3), layout="constrained")
        axes = page.subplots()
        for colour, (name, found) in zip(cycle(COLOURS), curves.items(), strict=False):
            axes.plot(found["iteration"], found["features"], color=colour, lw=2, label=name)
        axes.set(xlabel="iteration", ylabel="distance of features")
        axes.grid(axis="y")
        axes.legend()
    return page


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.miniature.curves", description=__doc__)
    parser.add_argument("runs", nargs="*", metavar="NAME=RUN_FOLDER")
    parser.add_argument("--record", type=Path, default=RECORD)
    parser.add_argument("--out", type=Path, default=FIGURE)
    options = parser.parse_args(arguments)
    try:
        if options.runs:
            if not all("=" in run for run in options.runs):
                raise ValueError("give each run as NAME=RUN_FOLDER")
            named = dict(run.split("=", 1) for run in options.runs)
            found = {name: curve(Path(folder)) for name, folder in named.items()}
            options.record.write_text(json.dumps(found, separators=(",", ":")) + "\n")
        save(figure(json.loads(options.record.read_text())), options.out)
    except (ValueError, OSError) as error:
        parser.error(f"no curves: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
