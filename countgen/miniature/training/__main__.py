"""Train one part of the miniature: `python -m countgen.miniature.training STAGE`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from countgen.miniature.training.loop import StageSettings

STAGES = {
    "vae": ("vae", "vae"),
    "teacher": ("teacher", "teacher"),
    "pairs": ("pairs", "pairs"),
    "student": ("student", "student"),
    "sharpen": ("sharpen", "sharpen"),
    "pixart-teacher": ("teacher", "pixart_teacher"),
    "pixart-pairs": ("pairs", "pixart_pairs"),
    "pixart-student": ("student", "pixart_student"),
    "pixart-sharpen": ("sharpen", "pixart_sharpen"),
    "critic": ("detectors", "critic"),
    "judge": ("detectors", "judge"),
    "heatmap": ("detectors", "heatmap"),
    "density": ("detectors", "density"),
}
"""The file in this folder and the function in it by stage; a file is imported when its stage is chosen."""


def stage_function(name: str) -> Callable[[StageSettings], None]:
    """Return the function of a stage.

    Raises:
        ValueError: there is no such stage.
    """
    if name not in STAGES:
        raise ValueError(f"unknown stage {name!r}; choose one of {', '.join(STAGES)}")
    module, function = STAGES[name]
    imported = importlib.import_module(f"countgen.miniature.training.{module}")
    found: Callable[[StageSettings], None] = getattr(imported, function)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m countgen.miniature.training", description=__doc__)
    parser.add_argument("stage", choices=[*STAGES, "score"])
    parser.add_argument("--out", type=Path, help="folder of the run (default runs/STAGE); a run there is continued")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, help="time budget")
    parser.add_argument(
        "--iterations",
        type=int,
        help="iteration budget (for pairs, batches); training ends at the first budget used up",
    )
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--init", type=Path, help="weights to start from; the word random for random weights")
    parser.add_argument("--data", type=Path, help="folder with the output of an earlier stage")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--number", type=int, help="number of samples: scenes of the pool, or pairs")
    parser.add_argument("--compile", action="store_true", help="run the denoiser through torch.compile")
    parser.add_argument("--folder", type=Path, help="score: a one-step pipeline folder")
    parser.add_argument("--prompts", type=int, default=480, help="score: number of images")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one stage; usage errors exit with status 2 and one line."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.device.startswith("cuda"):
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    try:
        if options.stage == "score":
            from countgen.miniature.training.score import print_score

            if options.folder is None:
                raise ValueError("score needs --folder, a one-step pipeline folder")
            if options.prompts < 1:
                raise ValueError(f"prompts is {options.prompts}; give 1 or more")
            print_score(options.folder, prompts=options.prompts, seed=options.seed, device=options.device)
            return
        settings = StageSettings(
            out=options.out or Path("runs") / options.stage,
            device=options.device,
            seconds=options.seconds,
            iterations=options.iterations,
            batch_size=options.batch_size,
            seed=options.seed,
            init=options.init,
            data=options.data,
            learning_rate=options.learning_rate,
            number=options.number,
            compile=options.compile,
            stage=options.stage,
        )
        stage_function(options.stage)(settings)
    except KeyboardInterrupt:
        sys.exit("stopped; the same command resumes the training")
    except torch.OutOfMemoryError as error:
        parser.error(f"the device is out of memory, give a smaller --batch-size or --number: {error}")
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
