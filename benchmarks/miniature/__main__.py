"""Train one part of the embedded models: `python -m countgen.benchmarks.miniature STAGE` (commands: README.md)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from countgen.benchmarks.miniature import detectors, sharpen, teacher
from countgen.benchmarks.miniature.training import StageSettings, read_notes

STAGES: dict[str, Callable[[StageSettings], None]] = {
    "teacher": teacher.teacher,
    "sharpen": sharpen.sharpen,
    "critic": detectors.critic,
    "judge": detectors.judge,
    "heatmap": detectors.heatmap,
    "density": detectors.density,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one stage; usage errors exit with status 2 and one line."""
    parser = argparse.ArgumentParser(prog="python -m countgen.benchmarks.miniature", description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--out", type=Path, help="folder of the run (default runs/STAGE); a run there is continued")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, help="time budget")
    parser.add_argument("--iterations", type=int, help="iteration budget; training ends at the first budget used up")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--init", type=Path, help="weights to start from, instead of random ones")
    parser.add_argument("--data", type=Path, help="folder with the output of an earlier stage")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--number", type=int, help="number of scenes in the pool that is rendered beforehand")
    options = parser.parse_args(arguments)
    options.out = options.out or Path("runs") / options.stage
    if options.device.startswith("cuda"):
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    try:
        settings = StageSettings(**vars(options))
        read_notes(settings)  # before any work: the folder may belong to another run
        torch.manual_seed(settings.seed)
        STAGES[options.stage](settings)
    except KeyboardInterrupt:
        sys.exit("stopped; the same command resumes the training")
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
