"""`countgen doctor`: check that everything a run needs is installed and usable, or how well judges count."""

import json
import os
import platform
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING

from countgen.app.exit_codes import NOT_REACHED, OK
from countgen.app.options import Device, Json, Trust, announce_downloads, option
from countgen.app.terminal import fitted

if TYPE_CHECKING:
    from countgen.benchmarks.evaluation.golden import Answers, GoldenImage

EXTRAS = ("demo", "lora", "ray", "report")
SWITCHES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "YOLO_OFFLINE", "YOLO_AUTOINSTALL")


@dataclass(frozen=True)
class Check:
    """One line of the report; `ok` is None for information without a check."""

    name: str
    ok: bool | None
    detail: str


@dataclass(frozen=True, kw_only=True)
class Doctor(Json, Trust, Device):
    """Check the installation: the exit code is 0 if all checks pass, otherwise 1.

    With --judge, let judges count the golden set instead, generated images whose objects an AI model counted, and print
    how often they count the same.
    """

    judge: list[str] | None = option(None, "NAME", "score this judge; repeatable, several have a majority too")

    def run(self) -> int:
        if self.judge:
            return self._score(self.judge)
        checks = [*_versions(), *_hardware(), _miniature(), *_switches(), *_folders()]
        healthy = all(check.ok is not False for check in checks)
        if self.json:
            print(json.dumps({"healthy": healthy, "checks": [asdict(check) for check in checks]}))
        else:
            for check in checks:
                mark = {True: "ok  ", False: "FAIL", None: "    "}[check.ok]
                print(fitted(f"{mark} {check.name:<20} {check.detail}", hang=26))
            print("all checks passed" if healthy else "some checks failed, see FAIL above")
        return OK if healthy else NOT_REACHED

    def _score(self, names: Sequence[str]) -> int:
        """Print how the judges that are named count the golden set."""
        from countgen.benchmarks.evaluation import golden
        from countgen.benchmarks.evaluation.consensus import MAJORITY
        from countgen.models import check_detectors, parts_of

        device = self.available_device()
        announce_downloads(check_detectors(names), shown=self.text)
        images = golden.golden_images()
        answers = {name: self._answers(name, images, device) for name in dict.fromkeys(names)}
        if len(answers) > 2:
            answers[MAJORITY] = golden.majority_answers(list(answers.values()))
        scores = {name: golden.rows(images, given) for name, given in answers.items()}
        again, kappa = golden.self_agreement()
        if self.json:
            judges = {name: [asdict(row) for row in rows] for name, rows in scores.items()}
            print(json.dumps({"judges": judges, "second_pass": asdict(again) | {"kappa": kappa}}))
            return OK
        for name, rows in scores.items():
            print(fitted(f"{name}: {len(answers[name])} of {len(images)} images of the golden set"))
            print("\n".join(golden.table(rows)))
            steered = sum(not set(parts_of(name)).isdisjoint(image.critics) for image in images)
            if steered:
                print(fitted(f"{name} steered {steered} of these images; what it counts there is biased"))
            print()
        low, high = (round(100 * end) for end in again.interval)
        print(
            fitted(
                f"The set's reader is an AI model; its second pass gave {again.exact} of {again.cases} counts again "
                f"({100 * again.exact / again.cases:.0f} % [{low}, {high}], kappa {kappa:.2f})"
            )
        )
        return OK

    def _answers(self, name: str, images: "Sequence[GoldenImage]", device: str) -> "Answers":
        """Return the answers of one judge, which is out of memory before the next one is loaded."""
        from countgen.benchmarks.evaluation import golden
        from countgen.models import load_critic
        from countgen.progress import counted_progress, loading

        with loading(name, shown=self.text):
            judge = load_critic(name, device, trust_checkpoint=self.trust_checkpoint)
        known = golden.known_images(judge, images)
        return dict(counted_progress(golden.answers(judge, known, device), len(known), shown=self.text))


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
