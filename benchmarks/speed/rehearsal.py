"""Rehearse published models on a CPU, offline, through the command: `python -m benchmarks.speed.rehearsal`.

Writes each model with random weights in the files of its repository, together with the detectors of COCO's classes,
runs `countgen generate`, `edit`, `eval` and `learn-token` on them, and prints seconds and peak memory beside the
predicted memory. Counts are not reached with random weights, so that the exit code 1 is expected.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

import torch

from benchmarks.speed.clock import GIB
from benchmarks.speed.models import MODELS, SIZES, build, build_critic, models_of
from benchmarks.speed.published import Home, write_detectors, write_model
from countgen.backbones import presets
from countgen.backbones.memory_check import WORKSPACE
from countgen.backbones.memory_estimate import estimate_memory, kept_by
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
        seconds: from its start to its end.
        cpu_seconds: of its process, which other processes do not add to.
        peak: bytes, the largest resident set of its process.
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

    @property
    def line(self) -> str:
        """The row of a table."""
        numbers = f"{self.seconds:.0f} | {self.cpu_seconds:.0f} | {self.peak / GIB:.2f} | {self.predicted / GIB:.2f}"
        what = f"{self.model} | {self.command} | {self.pixels} | {self.dtype}"
        return f"| {what} | {numbers} | {f'{self.code}: {self.said}' if self.said else self.code} |"


HEADER = "| model | command | pixels | weights | seconds | CPU seconds | peak GiB | predicted GiB | exit code |"


def rehearse(
    name: str, size: str, commands: Sequence[str], dtype: str, pixels: int | None, folder: Path, limit: float | None
) -> Iterator[Rehearsed]:
    """Write a model, run the commands on it and delete it.

    Args:
        name: of a preset.
        size: "full" or "tiny".
        commands: of `COMMANDS`; `edit` needs the image of `generate`, and is left out where that gave none.
        dtype: of the weights in memory, where a command can choose it.
        pixels: height and width of the images of `generate` and `edit`; the preset's by default.
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
            ran = _run(words, home, limit)
            # Neither takes a size, and an evaluation takes no dtype.
            side = (pixels if command in ("generate", "edit") else None) or preset.height
            loaded = "float32" if command == "eval" else dtype
            yield Rehearsed(name, size, command, side, loaded, *ran, predict(name, size, command, loaded, side))
    finally:
        shutil.rmtree(home.folder, ignore_errors=True)


def _words(command: str, name: str, folder: Path, dtype: str, pixels: int | None) -> list[str]:
    shape = ["--size", str(pixels)] if pixels else []
    device = ["--device", "cpu"]
    loading = ["--model", name, "--dtype", dtype]
    if command == "generate":
        steps = ["--method", "noise", "--max-steps", "1", "--seed", "0", "--memory", "low"]
        return [command, "a photo of three apples", *loading, *shape, *steps, *device, "--out", str(folder / "images")]
    if command == "edit":
        (image,) = _generated(folder)
        return [command, str(image), "apple=2", "--max-steps", "1", *device]
    if command == "eval":
        few = ["--suite", "d2d-small-style", "--limit", "1", "--methods", "plain,noise", "--max-evaluations", "4"]
        return [command, *few, "--model", name, *device, "--out", str(folder / "run")]
    few = ["--num-optimization-steps", "2", "--objects-per-step", "1", "--seeds-per-object", "1"]
    return [command, "3", "--object", "apple", *loading, *few, *device, "--out", str(folder / "count-3.safetensors")]


def _generated(folder: Path) -> list[Path]:
    """Return the image that `generate` wrote; none where it failed, or was interrupted before the first candidate."""
    return [path for path in (folder / "images").glob("*.png") if not path.stem.endswith("-before")]


def _run(words: Sequence[str], home: Home, limit: float | None) -> tuple[float, float, int, int, str]:
    """Run the command, and return what `Rehearsed` says of it."""
    environment = {**os.environ, **home.environment, "CUDA_VISIBLE_DEVICES": ""}
    begin = perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", *words], env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        timer = threading.Timer(limit or threading.TIMEOUT_MAX, process.send_signal, (signal.SIGTERM,))
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        finally:
            timer.cancel()
        seconds = perf_counter() - begin
        output.seek(0)
        said = output.read().strip().splitlines()
    process.returncode = os.waitstatus_to_exitcode(status)
    last = said[-1][:200] if said and process.returncode not in (*FINISHED, INTERRUPTED) else ""
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, process.returncode, last


def predict(name: str, size: str, command: str, dtype: str, pixels: int) -> int:
    """Return the bytes that the memory estimate predicts for a command on a CPU, where text encoders stay in memory."""
    model = build(name, size, torch.device("meta"), DTYPES[dtype])
    backbone = model.backbone
    backbone.height = backbone.width = pixels
    with torch.no_grad():
        embeds = model.encode()
    low = command in ("generate", "edit")
    need = estimate_memory(backbone, embeds)
    views = PLAIN_VIEW if command == "learn-token" else CONFIRMATION_VIEWS
    critic = build_critic(size, torch.device("cpu"))
    critic = no_larger(critic, pixels) if low else critic
    image = torch.zeros(1, 3, pixels, pixels).requires_grad_(True)
    critics = kept_by(partial(Objective((critic,), (Target("apple", 3),), views).evaluate, image))
    kept = need.kept_low if low else need.kept
    return need.weights + need.text_encoders + kept + critics + WORKSPACE


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
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.rehearsal", description=__doc__)
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
