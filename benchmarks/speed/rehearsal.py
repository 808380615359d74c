"""Rehearse published models on a CPU, offline, through the command: `python -m countgen.benchmarks.speed.rehearsal`.

Writes each model with random weights in the files of its repository, together with the detectors of COCO's classes,
runs `countgen generate`, `edit`, `eval` and `learn-token` on them, and prints the seconds of the processor and the peak
memory beside the predicted memory. Counts are not reached with random weights, so that the exit code 1 is expected.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch

from countgen.backbones import presets
from countgen.backbones.memory_check import WORKSPACE
from countgen.backbones.memory_estimate import estimate_memory, kept_by, weights_of
from countgen.benchmarks.speed import process
from countgen.benchmarks.speed.clock import GIB
from countgen.benchmarks.speed.models import MODELS, SIZES, build, build_critic, models_of
from countgen.benchmarks.speed.published import Home, write_detectors, write_model
from countgen.methods.objective import CONFIRMATION_VIEWS, PLAIN_VIEW, Objective
from countgen.models import no_larger
from countgen.prompts import Target

COMMANDS = ("generate", "edit", "eval", "learn-token")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
NO_TOKENS = ("sana", "z_image", "flux2")
"""Families whose text encoders take no count tokens."""
FINISHED = (0, 1)
"""Exit codes of a command that did its work; with random weights the counts differ."""
INTERRUPTED = 130


@dataclass(frozen=True)
class Rehearsed:
    """What one command took.

    Attributes:
        model, size, command: what ran.
        pixels: height and width of the image.
        dtype: of the weights in memory.
        seconds, cpu_seconds, peak, private: as `process.Finished` has them; None for a `private` that was not measured.
        code: exit code; 130 for a command that was interrupted after the time limit.
        said: last line of its output, where it failed.
        predicted: bytes.
    """

    model: str
    size: str
    command: str
    pixels: int
    dtype: str
    seconds: float
    cpu_seconds: float
    peak: int
    code: int
    said: str
    predicted: int
    private: int | None = None

    @property
    def line(self) -> str:
        """The row of a table."""
        private = "-" if self.private is None else f"{self.private / GIB:.2f}"
        numbers = f"{self.cpu_seconds:.0f} | {self.peak / GIB:.2f} | {private} | {self.predicted / GIB:.2f}"
        what = f"{self.model} | {self.command} | {self.pixels} | {self.dtype}"
        return f"| {what} | {numbers} | {f'{self.code}: {self.said}' if self.said else self.code} |"


HEADER = "| model | command | pixels | weights | CPU seconds | peak GiB | private GiB | predicted GiB | exit code |"


def rehearse(
    name: str, size: str, commands: Sequence[str], dtype: str, pixels: int | None, folder: Path, limit: float | None
) -> Iterator[Rehearsed]:
    """Write a model, run the commands on it and delete it.

    Args:
        name: of a preset.
        size: "full" or "tiny".
        commands: of `COMMANDS`; `edit` needs the image of `generate`, and is left out where that gave none.
        dtype: of the weights in memory.
        pixels: height and width of the images; the preset's by default.
        folder: for all files.
        limit: seconds after which a command is interrupted.
    """
    home = Home(folder / name)
    family, preset = presets()[name]
    stored = torch.float16 if preset.variant == "fp16" else preset.dtype if size == "full" else torch.float32
    try:
        write_model(name, size, stored, home)
        detectors = write_detectors(size, home)
        home.link_blobs()
        for command in commands:
            if command == "learn-token" and family in NO_TOKENS:
                continue
            if command == "edit" and not _generated(home.folder):
                continue
            words = _words(command, name, home.folder, dtype, pixels)
            if size == "tiny" or command == "eval":
                words += ["--critic", detectors[0], "--judge", detectors[1]]
            ran = process.run((*process.COUNTGEN, *words), home.environment, limit=limit)
            side = pixels or preset.height
            failed = ran.code not in (*FINISHED, INTERRUPTED)
            yield Rehearsed(
                *(name, size, command, side, dtype),
                *(ran.seconds, ran.cpu_seconds, ran.peak, ran.code),
                said=ran.output.strip().rpartition("\n")[2][:200] if failed else "",
                predicted=max(predict(name, size, command, dtype, side), loading(name, size, dtype, stored)),
                private=ran.private,
            )
    finally:
        shutil.rmtree(home.folder, ignore_errors=True)


def _words(command: str, name: str, folder: Path, dtype: str, pixels: int | None) -> list[str]:
    device = ["--device", "cpu"]
    loading = ["--model", name, "--dtype", dtype, "--memory", "low", *(["--size", str(pixels)] if pixels else [])]
    if command == "generate":
        steps = ["--method", "noise", "--max-steps", "1", "--seed", "0"]
        return [command, "a photo of three apples", *loading, *steps, *device, "--out", str(folder / "images")]
    if command == "edit":  # the rest is in the recipe of the image
        (image,) = _generated(folder)
        return [command, str(image), "apple=2", "--max-steps", "1", *device]
    if command == "eval":
        few = ["--suite", "d2d-small-style", "--limit", "1", "--methods", "plain,noise", "--max-evaluations", "4"]
        return [command, *few, *loading, *device, "--out", str(folder / "run")]
    numbers = {"objects-per-step": 1, "seeds-per-object": 1, "validation-images": 1, "trial-images": 0}
    numbers |= {"distillation-steps": 1, "num-optimization-steps": 2}
    steps = [word for name, value in numbers.items() for word in (f"--{name}", str(value))]
    return [command, "3", "--object", "apple", *loading, *steps, *device, "--out", str(folder / "count-3.safetensors")]


def _generated(folder: Path) -> list[Path]:
    """Return the image that `generate` wrote; none where it failed, or was interrupted before the first candidate."""
    return [path for path in (folder / "images").glob("*.png") if not path.stem.endswith("-before")]


def loading(name: str, size: str, dtype: str, stored: torch.dtype) -> int:
    """Return the bytes that are resident at most while a model is read.

    The file of a component stays mapped until its weights are converted: the resident set holds both, though the
    system takes pages of files back where memory is short. Weights that are not converted stay in the file's pages.
    """
    backbone = build(name, size, torch.device("meta"), DTYPES[dtype]).backbone
    parts = [weights_of(part) for part in backbone.pipeline.components.values()]
    mapped = 0 if DTYPES[dtype] == stored else max(parts) * stored.itemsize // DTYPES[dtype].itemsize
    return sum(parts) + mapped + WORKSPACE


def predict(name: str, size: str, command: str, dtype: str, pixels: int) -> int:
    """Return the bytes that the memory estimate predicts for a command on a CPU, where text encoders stay in memory."""
    model = build(name, size, torch.device("meta"), DTYPES[dtype])
    backbone = model.backbone
    backbone.height = backbone.width = pixels
    with torch.no_grad():
        embeds = model.encode()
    need = estimate_memory(backbone, embeds)
    views = PLAIN_VIEW if command == "learn-token" else CONFIRMATION_VIEWS
    critic = no_larger(build_critic(size, torch.device("cpu")), pixels)
    image = torch.zeros(1, 3, pixels, pixels).requires_grad_(True)
    critics = kept_by(partial(Objective((critic,), (Target("apple", 3),), views).evaluate, image))
    return need.weights + need.text_encoders + need.kept_low + critics + WORKSPACE


def keep(one: Rehearsed, path: Path) -> None:
    """Write a result into a file, in place of an earlier one of the same command."""
    same = ("model", "size", "command", "pixels", "dtype")
    others = [other for other in read(path) if any(getattr(other, name) != getattr(one, name) for name in same)]
    path.write_text(json.dumps([asdict(other) for other in (*others, one)], indent=1) + "\n", "utf-8")


def read(path: Path) -> list[Rehearsed]:
    """Return the results in a file that `--out` wrote; none where there is no such file."""
    return [Rehearsed(**fields) for fields in json.loads(path.read_text("utf-8"))] if path.exists() else []


def table(results: Sequence[Rehearsed]) -> list[str]:
    """Return the lines of a table."""
    return [HEADER, "| --- " * (HEADER.count("|") - 1) + "|", *(one.line for one in results)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns 1 where a command failed."""
    parser = argparse.ArgumentParser(prog="python -m countgen.benchmarks.speed.rehearsal", description=__doc__)
    parser.add_argument("--models", default=",".join(MODELS), help="with commas")
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--commands", default=",".join(COMMANDS), help="with commas (%(default)s)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of the weights in memory (%(default)s)")
    parser.add_argument(
        "--pixels", type=int, metavar="N", help="height and width of generated images (the preset's; tiny: 64)"
    )
    parser.add_argument("--folder", type=Path, help="for the files, which take as much as the models (a temporary one)")
    parser.add_argument("--limit", type=float, metavar="S", help="seconds after which a command is interrupted (none)")
    parser.add_argument(
        "--out", type=Path, metavar="FILE.json", help="also keep the results here, beside those of other models"
    )
    options = parser.parse_args(arguments)
    commands = options.commands.split(",")
    if unknown := [command for command in commands if command not in COMMANDS]:
        parser.error(f"no command {', '.join(map(repr, unknown))}; available: {', '.join(COMMANDS)}")
    if "edit" in commands and "generate" not in commands[: commands.index("edit")]:
        parser.error("edit needs the image of generate, which comes before it")
    names = models_of(parser, options.models)
    pixels = options.pixels or (64 if options.size == "tiny" else None)
    found: list[Rehearsed] = []
    print(*table(()), sep="\n", flush=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for name in names:
            for one in rehearse(name, options.size, commands, options.dtype, pixels, Path(folder), options.limit):
                print(one.line, flush=True)
                found.append(one)
                if options.out is not None:
                    keep(one, options.out)
    return 0 if all(one.code in FINISHED or (one.code == INTERRUPTED and options.limit) for one in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
