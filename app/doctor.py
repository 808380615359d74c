"""`countgen doctor`: check that everything a run needs is installed and usable."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.exit_codes import NOT_REACHED, OK
from app.terminal import fitted

PACKAGES = (
    *("torch", "torchvision", "diffusers", "transformers", "ultralytics", "accelerate", "safetensors", "inflect"),
    *("numpy", "orjson", "pillow", "protobuf", "pyyaml", "scipy", "sentencepiece", "shtab", "tqdm"),
)
OPTIONAL_PACKAGES = ("gradio", "matplotlib", "pyarrow", "ray")
SWITCHES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "YOLO_OFFLINE", "YOLO_AUTOINSTALL")


@dataclass(frozen=True)
class Check:
    """One line of the report; `ok` is None for information without a check."""

    name: str
    ok: bool | None
    detail: str


def add_parser(commands: Any) -> None:
    """Add the command to the sub-parsers."""
    parser = commands.add_parser(
        "doctor",
        help="check the installation",
        description="Check the installation. The exit code is 0 if all checks pass, otherwise 1.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(options: argparse.Namespace) -> int:
    """Run the checks, print them and return the exit code, 1 if a check failed."""
    checks = [*_versions(), *_hardware(), _miniature(), *_switches(), *_folders()]
    healthy = all(check.ok is not False for check in checks)
    if options.json:
        print(json.dumps({"healthy": healthy, "checks": [asdict(check) for check in checks]}))
    else:
        for check in checks:
            mark = {True: "ok  ", False: "FAIL", None: "    "}[check.ok]
            print(fitted(f"{mark} {check.name:<20} {check.detail}", hang=26))
        print("all checks passed" if healthy else "some checks failed, see FAIL above")
    return OK if healthy else NOT_REACHED


def _versions() -> list[Check]:
    from importlib.metadata import PackageNotFoundError, version

    checks = [Check("python", sys.version_info >= (3, 11), platform.python_version())]
    for name in (*PACKAGES, *OPTIONAL_PACKAGES):
        try:
            checks.append(Check(name, True, version(name)))
        except PackageNotFoundError:
            optional = name in OPTIONAL_PACKAGES
            checks.append(Check(name, None if optional else False, "not installed" + " (optional)" * optional))
    return checks


def _hardware() -> list[Check]:
    try:
        import torch
    except ImportError as error:  # also reported by _versions if it is not installed
        return [Check("device", False, f"torch cannot be imported: {error}")]
    threads = Check("threads", None, f"{torch.get_num_threads()} of {os.cpu_count()} cores")
    if not torch.cuda.is_available():
        return [Check("device", True, "cpu (no CUDA device)"), threads]
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return [Check("device", True, f"cuda: {', '.join(names)}"), threads]


def _miniature() -> Check:
    from countgen.miniature import checksums

    wrong = checksums.problems()
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        return Check("miniature", False, f"{'; '.join(wrong[:3])}{more}; reinstall countgen")
    return Check("miniature", True, f"{len(checksums.recorded())} files, checksums correct")


def _switches() -> list[Check]:
    return [Check(name, None, os.environ.get(name, "not set")) for name in SWITCHES]


def _folders() -> list[Check]:
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "huggingface"
    cache = Path(os.environ.get("HF_HOME", default))
    return [_writable("model cache", cache), _writable("temporary", Path(tempfile.gettempdir()))]


def _writable(name: str, folder: Path) -> Check:
    """Check that files can be created in a folder, or in its nearest existing parent; create no folder."""
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=existing):
            return Check(name, True, f"{folder} is writable")
    except OSError as error:
        return Check(name, False, f"{folder} is not writable: {error.strerror}")
