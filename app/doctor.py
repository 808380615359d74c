"""`countgen doctor`: check that everything a run needs is installed and usable.

Torch is imported within a check, so that a damaged installation is reported and not a traceback.
"""

import json
import os
import platform
import re
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from countgen.app.arguments import Doctor
from countgen.app.exit_codes import NOT_REACHED, OK
from countgen.app.terminal import fitted
from countgen.miniature import checksums

EXTRAS = ("demo", "lora", "ray", "report")
SWITCHES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "YOLO_OFFLINE", "YOLO_AUTOINSTALL")


@dataclass(frozen=True)
class Check:
    """One line of the report; `ok` is None for information without a check."""

    name: str
    ok: bool | None
    detail: str


def run(command: Doctor) -> int:
    """Print the checks, or how the judges that are named count the golden set."""
    if command.judge:
        from countgen.app.judge_scores import print_scores

        print_scores(command, command.judge)
        return OK
    switches = [Check(name, None, os.environ.get(name, "not set")) for name in SWITCHES]
    checks = [*_versions(), *_hardware(), _miniature(), *switches, *_folders()]
    healthy = all(check.ok is not False for check in checks)
    if command.json:
        print(json.dumps({"healthy": healthy, "checks": [asdict(check) for check in checks]}))
    else:
        for check in checks:
            mark = {True: "ok  ", False: "FAIL", None: "    "}[check.ok]
            print(fitted(f"{mark} {check.name:<20} {check.detail}", hang=26))
        print("all checks passed" if healthy else "some checks failed, see FAIL above")
    return OK if healthy else NOT_REACHED


def _versions() -> list[Check]:
    """Check the packages that countgen requires, and list those of its extras for users."""
    checks = [Check("python", sys.version_info >= (3, 11), platform.python_version())]
    try:
        requirements = requires("countgen") or []
    except PackageNotFoundError:
        return [*checks, Check("countgen", None, "not installed by pip, so its requirements are not known")]
    for requirement in requirements:
        extra = re.search(r"extra == .(\w+)", requirement)
        name = re.split(r"[^\w-]", requirement)[0]
        if extra is None or extra[1] in EXTRAS:
            try:
                checks.append(Check(name, True, version(name)))
            except PackageNotFoundError:
                checks.append(Check(name, None if extra else False, "not installed" + " (optional)" * bool(extra)))
    return list({check.name: check for check in checks}.values())


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
    wrong = checksums.problems()
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        return Check("miniature", False, f"{'; '.join(wrong[:3])}{more}; reinstall countgen")
    return Check("miniature", True, f"{len(checksums.recorded())} files, checksums correct")


def _folders() -> list[Check]:
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "huggingface"
    cache = Path(os.environ.get("HF_HOME", default))
    return [_writable("model cache", cache), _writable("temporary", Path(tempfile.gettempdir()))]


def _writable(name: str, folder: Path) -> Check:
    """Check that files can be created in a folder, or in its nearest existing parent; create no folder."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            return Check(name, True, f"{folder} is writable")
    except OSError as error:
        return Check(name, False, f"{folder} is not writable: {error.strerror}")
