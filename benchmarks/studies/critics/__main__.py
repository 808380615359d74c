"""How faithful the critics are, on rendered scenes with known counts: `python -m benchmarks.studies.critics [--sweep]`.

Soft against hard count, hard count against the truth by count and condition, thresholds, duplicate suppression,
cost. `--sweep` chooses threshold, NMS IoU and steepness, on scenes of other seeds than those reported.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.studies.critics.known_scenes import COUNTS
from benchmarks.studies.critics.plots import plot
from benchmarks.studies.critics.readings import read
from benchmarks.studies.critics.tables import report, sweep
from countgen import miniature
from countgen.models import load_critic

REPORTED, SWEPT = 2100, 630
COMMITTED = Path("docs/critics")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.critics", description=__doc__)
    parser.add_argument(
        "--critics", nargs="+", default=list(miniature.DETECTORS), help="embedded ones, or KIND:WEIGHTS, as of generate"
    )
    parser.add_argument(
        "--trust-checkpoint", action="store_true", help="let code in the .pt files of --critics run, with your rights"
    )
    parser.add_argument("--scenes", type=int, help=f"each under four conditions; {REPORTED}, or {SWEPT} of a sweep")
    parser.add_argument("--sweep", action="store_true", help="choose the settings instead of reporting")
    parser.add_argument("--out", type=Path, default=COMMITTED, help="folder for tables, figures, plots")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    usual = SWEPT if options.sweep else REPORTED
    scenes = options.scenes or usual
    complete = scenes >= usual and set(options.critics) >= set(miniature.DETECTORS)
    if not complete and options.out.resolve() == COMMITTED.resolve():
        parser.error(f"{COMMITTED} holds what {usual} scenes and all embedded critics say: name another --out")
    torch.set_num_threads(options.threads)
    per_count = max(1, round(scenes / len(COUNTS)))
    try:
        critics = [load_critic(name, trust_checkpoint=options.trust_checkpoint) for name in options.critics]
    except (ValueError, OSError) as error:
        parser.error(str(error))
    readings = read(critics, per_count, "tuning" if options.sweep else "reporting")
    options.out.mkdir(parents=True, exist_ok=True)
    if options.sweep:
        name, (text, figures) = "sweep", sweep(readings)
    else:
        name, (text, figures) = "report", report(readings, critics)
        plot(readings, options.out)
    (options.out / f"{name}.md").write_text(text)
    (options.out / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
