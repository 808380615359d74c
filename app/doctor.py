"""`countgen doctor`: check that everything a run needs is installed and usable, or how well judges count."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countgen.app.argument_types import add_trust_checkpoint
from countgen.app.exit_codes import NOT_REACHED, OK
from countgen.app.loading import available_device
from countgen.app.terminal import fitted

if TYPE_CHECKING:
    from countgen.benchmarks.evaluation.golden import Answers, GoldenImage

PACKAGES = (
    *("torch", "torchvision", "diffusers", "transformers", "ultralytics", "accelerate", "safetensors", "inflect"),
    *("filelock", "msgspec", "numpy", "pillow", "protobuf", "pyyaml", "scipy", "sentencepiece", "shtab", "tqdm"),
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
        help="check the installation, or a judge",
        description="Check the installation. The exit code is 0 if all checks pass, otherwise 1. With --judge, let "
        "judges count the golden set instead, generated images whose objects an AI model counted, and print how often "
        "they count the same.",
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "--judge", action="append", metavar="NAME", help="score this judge; repeatable, several have a majority too"
    )
    add_trust_checkpoint(parser)
    parser.add_argument("--device", metavar="NAME", help="of the judges: cpu, cuda, ... (CUDA where there is one)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(options: argparse.Namespace) -> int:
    """Run the checks, print them and return the exit code, 1 if a check failed.

    Raises:
        ValueError, OSError: a judge that cannot be loaded, or that knows no class of the golden set.
    """
    if options.judge:
        return _score(options)
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


def _score(options: argparse.Namespace) -> int:
    """Print how the judges that are named count the golden set."""
    from countgen.benchmarks.evaluation import golden
    from countgen.benchmarks.evaluation.consensus import MAJORITY
    from countgen.files.printable import printable
    from countgen.models import check_detectors, parts_of

    device = available_device(options.device)
    for missing in check_detectors(options.judge):
        if not options.json:
            print(fitted(f"will be downloaded: {printable(str(missing), 400)}"))
    images = golden.golden_images()
    found: dict[str, Answers] = {}
    for name in dict.fromkeys(options.judge):
        found[name] = _answers(name, images, device, options)
    if len(found) > 2:
        found[MAJORITY] = golden.majority_answers(list(found.values()))
    scores = {name: golden.rows(images, mine) for name, mine in found.items()}
    again, kappa = golden.self_agreement()
    if options.json:
        judges = {name: [asdict(row) for row in mine] for name, mine in scores.items()}
        print(json.dumps({"judges": judges, "second_pass": asdict(again) | {"kappa": kappa}}))
        return OK
    for name, mine in scores.items():
        print(fitted(f"{printable(name, 200)}: {len(found[name])} of {len(images)} images of the golden set"))
        print("\n".join(golden.table(mine)))
        steered = sum(not set(parts_of(name)).isdisjoint(image.critics) for image in images)
        if steered:
            print(fitted(f"{printable(name, 200)} steered {steered} of these images; what it counts there is biased"))
        print()
    low, high = (round(100 * end) for end in again.interval)
    print(
        fitted(
            f"The set's reader is an AI model; its second pass gave {again.exact} of {again.cases} counts again "
            f"({100 * again.exact / again.cases:.0f} % [{low}, {high}], kappa {kappa:.2f})"
        )
    )
    return OK


def _answers(name: str, images: Sequence[GoldenImage], device: str, options: argparse.Namespace) -> Answers:
    """Return the answers of one judge, which is out of memory before the next one is loaded."""
    from countgen.benchmarks.evaluation import golden
    from countgen.benchmarks.evaluation.progress import shown
    from countgen.models import load_critic
    from countgen.progress import loading

    with loading(name, shown=not options.json):
        judge = load_critic(name, device, trust_checkpoint=options.trust_checkpoint)
    known = golden.known_images(judge, images)
    return dict(shown(golden.answers(judge, known, device), len(known), 0, lambda _: False))


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
