"""Seconds that a new user waits for each command: `python -m countgen.benchmarks.speed.first_output`.

Runs each command once, as it is typed, with the embedded models, offline, in an empty home folder and with the
photographs that the ultralytics package ships, and writes the table into docs/results.md. Another process that
computes makes all of it slower: the last line says how busy the machine was.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import socket
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from countgen.benchmarks.speed import process

PIPELINE = """\
import countgen
from countgen.miniature import FOLDER
from diffusers import StableDiffusionXLPipeline

pipe = StableDiffusionXLPipeline.from_pretrained(FOLDER / "mini-sdxl-turbo")
detectors = {"critics": ("miniature-yolo",), "judge": "miniature-fcos"}
models = countgen.load(pipe, num_inference_steps=1, guidance_scale=0.0, **detectors)
result = countgen.generate("a photo of seven apples", models)
print(result.counts, result.judge_counts, result.verified)
"""
DEMO = "countgen demo"
COMMANDS = (
    "countgen --help",
    "countgen doctor",
    "countgen count bus.jpg zidane.jpg person bus",
    'countgen generate "a photo of seven apples" --out pictures',
    "countgen edit pictures/a-photo-of-seven-apples-0-after.png apple=5",
    "python pipeline.py",
    "countgen eval --suite t2icountbench-miniature --limit 2 --methods plain,auto --out study",
    "countgen learn-token 3 --object apple --distillation-steps 1 --num-optimization-steps 1 --objects-per-step 1"
    " --validation-images 4 --trial-images 4",
    "countgen calibrate --object apple --images 2 --max-number 3",
    DEMO,
)
"""`pipeline.py` holds `PIPELINE`; the training and the calibration have their least sizes."""
_CODES = (0, 1, 130)
"""A count that was not reached, and the demo, which is interrupted, are no failures."""
DOCUMENT = Path("docs/results.md")
_MARKED = re.compile(r"(<!-- first output -->\n).*?(<!-- end of first output -->)", re.DOTALL)
HEADER = "| command | first line, s | result, s | CPU seconds | exit code | last line |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns 1 where a command failed."""
    parser = argparse.ArgumentParser(prog="python -m countgen.benchmarks.speed.first_output", description=__doc__)
    parser.add_argument(
        "--commands", metavar="WORDS", help="only those with one of these words; the document then stays as it is"
    )
    options = parser.parse_args(arguments)
    wanted = [line for line in COMMANDS if not options.commands or set(options.commands.split()) & set(line.split())]
    if not wanted:
        parser.error(f"no command contains any of {options.commands!r}")
    load, failed = os.getloadavg()[0], False
    lines = [HEADER, "| --- " * (HEADER.count("|") - 1) + "|"]
    print(*lines, sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        (home := Path(folder, "home")).mkdir()
        Path(folder, "pipeline.py").write_text(PIPELINE, "utf-8")
        for photo in _photographs():
            shutil.copy(photo, folder)
        for line in wanted:
            ran = _run(line, Path(folder), home)
            lines.append(_row(line, ran))
            print(lines[-1], flush=True)
            failed |= ran.code not in _CODES
    lines += ["", f"{os.cpu_count()} cores; load average {load:.1f} at the start, {os.getloadavg()[0]:.1f} at the end."]
    print(*lines[-2:], sep="\n")
    if not options.commands:
        written = DOCUMENT.read_text("utf-8")
        DOCUMENT.write_text(_MARKED.sub(lambda found: found[1] + "\n".join([*lines, found[2]]), written), "utf-8")
    return int(failed)


def _row(line: str, ran: process.Finished) -> str:
    said = (ran.output.strip().splitlines() or [""])[-1].strip().replace("|", "/")[:100]
    result = ran.first_output if line == DEMO else ran.seconds
    return f"| `{line}` | {ran.first_output:.1f} | {result:.1f} | {ran.cpu_seconds:.1f} | {ran.code} | {said} |"


def _run(line: str, folder: Path, home: Path) -> process.Finished:
    program, *words = shlex.split(line)
    ready = None
    if line == DEMO:
        port = _free_port()
        words += ["--port", str(port)]
        ready = _answers(f"http://127.0.0.1:{port}/")
    # The first place to import from is the code that this file belongs to, installed or not.
    variables = {"HOME": str(home), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    start = process.COUNTGEN if program == "countgen" else ()
    return process.run((*start, *words), variables, folder=folder, ready=ready)


def _photographs() -> list[Path]:
    found = find_spec("ultralytics")
    assert found is not None
    assert found.origin is not None
    return sorted(Path(found.origin).with_name("assets").glob("*.jpg"))


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


def _answers(url: str) -> Callable[[], bool]:
    def answers() -> bool:
        try:
            with urlopen(url, timeout=1) as response:
                return bool(response.status == 200)
        except (URLError, OSError):
            return False

    return answers


if __name__ == "__main__":
    raise SystemExit(main())
