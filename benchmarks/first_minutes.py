"""Minutes from `git clone` to the first picture, by the README alone: `python -m benchmarks.first_minutes`.

Clones the project, reads the first command that draws out of the clone's README, and runs it there as a reader would,
each part behind a `&&` on its own clock. Nothing that is installed here is used.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
_SHELL_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_OURS = ("PYTHONPATH", "VIRTUAL_ENV", "PIP_REQUIRE_VIRTUALENV")


def steps(readme: str) -> list[str]:
    """The parts of the README's first shell command that draws a picture.

    Raises:
        ValueError: it has none.
    """
    for block in _SHELL_BLOCK.findall(readme):
        for line in block.replace("\\\n", " ").splitlines():
            if "countgen generate" in line:
                return [part.strip() for part in line.split("&&")]
    raise ValueError("the README has no shell command with `countgen generate`")


def timed(command: str, folder: Path) -> tuple[float, str]:
    """Minutes that a command takes in a folder, and what it printed.

    Raises:
        ValueError: it failed; the message holds its last lines.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _OURS}
    begun = time.perf_counter()
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    minutes = (time.perf_counter() - begun) / 60
    if done.returncode:
        raise ValueError(f"`{command}` ended with {done.returncode}:\n{done.stdout[-2000:]}")
    return minutes, done.stdout


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_minutes", description=__doc__)
    parser.add_argument("--source", default=str(ROOT), help="what to clone: an address or a folder (this one)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "countgen"
        minutes, _ = timed(f"git clone --quiet '{options.source}' '{clone}'", Path(folder))
        print(f"{minutes:6.2f} min  git clone", flush=True)
        total = minutes
        for command in steps((clone / "README.md").read_text(encoding="utf-8")):
            minutes, output = timed(command, clone)
            print(f"{minutes:6.2f} min  {command}", flush=True)
            total += minutes
    print(f"{total:6.2f} min  in all\n{output.rstrip()}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
