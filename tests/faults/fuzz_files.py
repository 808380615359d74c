"""Damage recipes, token files, detector files, calibrations, labels and judgements at random.

`python -m tests.faults.fuzz_files --tries 1500 --seed 0` prints what was accepted and refused, and every failure.

Every try must end in what the file honestly holds or in one line that says what is wrong, in seconds, and must run no
code, open no connection and start no process. The seed and the number of a try give the same file again.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from msgspec import to_builtins

from countgen import miniature
from countgen.benchmarks.evaluation.judgements import JUDGEMENTS, Judgement, read_judgements, with_judgements
from countgen.benchmarks.evaluation.labels import LABELS, read_labels
from countgen.benchmarks.evaluation.metrics import with_labels
from countgen.benchmarks.evaluation.report.export import as_json
from countgen.benchmarks.evaluation.report.findings import findings
from countgen.benchmarks.evaluation.report.reported_run import ReportedRun
from countgen.critics import load
from countgen.critics.ultralytics_files import import_ultralytics
from countgen.editing import targets_of
from countgen.errors import TokenFileError
from countgen.images import read_png, save_png
from countgen.number_slider import Calibration, NumberShift, load_calibration
from countgen.recipe import SCHEMA, check
from countgen.tokens.file import METADATA_KEY, decoded, encoded
from countgen.tokens.library import available_tokens
from tests.benchmarks.evaluation.made_records import record

LONGEST_MESSAGE = 1000
SECONDS = 20.0
"""Most seconds of a try; a detector is built in one or two on a busy machine."""

_FORBIDDEN = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "subprocess.",
    "socket.connect",
    "socket.getaddrinfo",
)
_EVIL = "__import__('os').mkdir('MARK')"
_ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 7, 2**31, 2**63, 10**400, 0.5, -0.0, 1e308, float("inf"), float("nan")),
    *(
        "",
        " ",
        "nc",
        "None",
        "\ud800",
        "\x1b[2J\n",
        "../../etc/passwd",
        "http://127.0.0.1:9/x",
        "refs/pr/1",
        "x" * 5000,
    ),
    *([], {}, [[]], [1, [2, [3]]], {"a": {"b": 1}}, [None] * 50, _EVIL, "d", "m", "torch", "nn.Module", "TorchVision"),
)


class Call:
    """Pickled, it is a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def damaged(value: Any, chance: random.Random, mark: str) -> Any:
    """A copy of what JSON can hold with one place of it changed, taken away, doubled or exchanged."""
    value = copy.deepcopy(value)
    places: list[tuple[Any, Any]] = []
    left = [value]
    while left:
        one = left.pop()
        keys = list(one) if isinstance(one, dict) else range(len(one))
        places += [(one, key) for key in keys]
        left += [one[key] for key in keys if isinstance(one[key], dict | list)]
    holder, key = chance.choice(places)
    match chance.randrange(5):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, list):
            holder.insert(key, holder[key])
        case 2:
            other, its = chance.choice(places)
            holder[key] = (
                copy.deepcopy(other[its]) if its in (other if isinstance(other, dict) else range(len(other))) else None
            )
        case _:
            odd = copy.deepcopy(chance.choice(_ODD))
            holder[key] = odd.replace("MARK", mark) if isinstance(odd, str) else odd
    return value


def flipped(data: bytes, chance: random.Random) -> bytes:
    """Bytes changed, cut off or put in."""
    content = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        place = chance.randrange(max(len(content), 1))
        match chance.randrange(4):
            case 0:
                del content[place:]
            case 1:
                content[place:place] = chance.randbytes(chance.choice((1, 8, 64)))
            case _ if content:
                content[min(place, len(content) - 1)] = chance.randrange(256)
    return bytes(content)


def recipe(chance: random.Random, folder: Path, mark: str) -> None:
    """An image whose recipe is damaged, as `countgen reproduce` reads it before it loads a model."""
    honest = {
        **{"schema": SCHEMA, "prompt": "seven apples", "method": "plain", "seed": 0, "candidate_seed": 0},
        **{
            "backbone": chance.choice(("miniature", "miniature", "miniature", "sd-turbo")),
            "repository": "mini-sdxl-turbo",
        },
        **{"revision": "a" * 40, "num_inference_steps": 1, "guidance_scale": 0.0, "height": 64, "width": 64},
        **{"dtype": "float32", "memory": "fast", "token": {"placeholder_token": "<count-7>", "sha256": "0" * 64}},
        "latents": {"shape": [4, 8, 8], "float32": "AAAAAA=="},
        "versions": {"torch": "2"},
        "targets": [{"object_name": "apple", "target_count": 7}],
        "number_shifts": [to_builtins(NumberShift("apple", 0, 5, 7, 2.0, 3, 7))],
    }
    if chance.random() < 0.7:  # an image has a token or number shifts
        honest["number_shifts" if chance.random() < 0.5 else "token"] = []
    text = json.dumps(damaged(damaged(honest, chance, mark), chance, mark))
    path = save_png(torch.zeros(3, 64, 64), folder / "image.png", {"x": 0}, overwrite=True)
    content = path.read_bytes()
    if chance.random() < 0.2:
        path.write_bytes(flipped(content, chance))
    else:
        _write_png(path, text)
    image, read = read_png(path)
    read = read if chance.random() < 0.5 else read | {"token": None}
    check(read, size=image.size)
    targets_of(read)


def _write_png(path: Path, text: str) -> None:
    """An image with any text as its recipe, also such as `save_png` refuses."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("countgen", text)
    Image.new("RGB", (64, 64)).save(path, pnginfo=info)


def token(chance: random.Random, folder: Path, mark: str) -> None:
    """A shipped token with damage in its bytes or in what its header says."""
    honest = encoded(chance.choice(tuple(available_tokens("miniature").values())))
    decoded(_damaged_tensors(honest, METADATA_KEY, chance, mark), "the token")


def _damaged_tensors(honest: bytes, key: str, chance: random.Random, mark: str) -> bytes:
    """Return the bytes of a safetensors file with damage anywhere or in its header."""
    if chance.random() < 0.5:
        return flipped(honest, chance)
    length = int.from_bytes(honest[:8], "little")
    header = json.loads(honest[8 : 8 + length])
    if chance.random() < 0.7:
        said = damaged(json.loads(header["__metadata__"][key]), chance, mark)
        header["__metadata__"][key] = json.dumps(said)
    else:
        header = damaged(header, chance, mark)
    changed = json.dumps(header).encode()
    return len(changed).to_bytes(8, "little") + changed + honest[8 + length :]


def detector(chance: random.Random, folder: Path, mark: str) -> None:
    """A description, weights or a checkpoint with damage in it, or with calls."""
    options = miniature.DETECTORS["miniature-yolo"].options
    described = yaml.safe_load(options["config"].read_text())
    kind = chance.choice(("yolo", "yolo", "yolo_world", "ultralytics_rtdetr"))
    match chance.randrange(5):
        case 0 | 1:
            config = folder / "described.yaml"
            text = yaml.safe_dump(damaged(described, chance, mark))
            config.write_bytes(flipped(text.encode(), chance) if chance.random() < 0.3 else text.encode())
            load(kind, weights=options["weights"], config=config)
        case 2:
            weights = folder / "weights.safetensors"
            weights.write_bytes(flipped(options["weights"].read_bytes(), chance))
            load(kind, weights=weights, config=options["config"])
        case 3:
            path = folder / "checkpoint.pt"
            torch.save({"model": _evil(chance, described, mark), "train_args": {"imgsz": chance.choice(_ODD)}}, path)
            load(kind, weights=path)
        case _:
            path = folder / "checkpoint.pt"
            path.write_bytes(flipped(_checkpoint(described), chance))
            load(kind, weights=path)


def _evil(chance: random.Random, described: dict[str, Any], mark: str) -> Any:
    import_ultralytics()  # without its look-ups, as the critics import it
    from ultralytics.nn import tasks
    from ultralytics.nn.modules import TorchVision

    model = tasks.DetectionModel(copy.deepcopy(described), nc=24, verbose=False)
    model.names = dict(enumerate(described["names"]))
    call = chance.choice(
        (
            Call(os.mkdir, mark),
            Call(os.system, "true"),
            Call(eval, _EVIL.replace("MARK", mark)),
            Call(TorchVision, 512, "resnet18", "DEFAULT"),
            Call(tasks.DetectionModel, {**described, "activation": _EVIL.replace("MARK", mark)}),
            Call(getattr, "text", "join"),
        )
    )
    match chance.randrange(4):
        case 0:
            return call
        case 1:
            model.yaml = damaged({**described, "nc": 24}, chance, mark)
        case 2:
            model.extra = call
        case _:
            model.names = chance.choice(_ODD)
    return model


_KEPT: dict[str, bytes] = {}


def _checkpoint(described: dict[str, Any]) -> bytes:
    if not _KEPT:
        import_ultralytics()
        from ultralytics.nn import tasks

        model = tasks.DetectionModel(copy.deepcopy(described), nc=24, verbose=False)
        model.names = dict(enumerate(described["names"]))
        with tempfile.TemporaryDirectory() as folder:
            torch.save({"model": model.half()}, path := Path(folder) / "honest.pt")
            _KEPT["checkpoint"] = path.read_bytes()
    return _KEPT["checkpoint"]


def calibration(chance: random.Random, folder: Path, mark: str) -> None:
    """A calibration, complete and of the right model where it is not damaged, and all that follows from it."""
    path = folder / "calibration.json"
    made = Calibration("miniature", 1, 0.0, 128, 128, "miniature-yolo", ("cat",), 20, 0, 4)
    for number in range(1, 5):
        made = made.with_point(number, 0.0, {number: 19, 4: 1})
    for offset in (1, 2, 3, 4, -2):
        made = made.with_point(4, float(offset), {4 + offset: 18, 9: 2})
    made.save(path)
    if chance.random() < 0.2:
        path.write_bytes(flipped(path.read_bytes(), chance))
    else:
        path.write_text(json.dumps(damaged(json.loads(path.read_text()), chance, mark)))
    read = load_calibration(path)
    if read.words and not read.left:
        assert read.max_count >= 0
        assert [read.replacement_for(count) for count in (1, 14, 1000)]


def judgements(chance: random.Random, folder: Path, mark: str) -> None:
    """Judgements and labels of two images, one file of them damaged, and the figures of a report."""
    two = {"wanted": {"apple": 3, "dog": 2}, "critic_counts": (3, 2)}
    records = [record(seed=seed, judge_counts={"detector": (3, 1)}, **two) for seed in range(2)]
    judged = [Judgement(one.key, "vlm", (3, 2), 0.5, ((1, 2, 3, 4),)).to_line() for one in records]
    silent = Judgement(records[0].key, "owl", None, 0.0, ()).to_line()
    label = {"schema": 1, "key": records[0].key, "labeller": "anna", "counts": [3, None]}
    lines = {JUDGEMENTS: [*judged, silent], LABELS: [json.dumps(label).encode() + b"\n"]}
    name = chance.choice(list(lines))
    if chance.random() < 0.3:
        lines[name] = [flipped(b"".join(lines[name]), chance)]
    else:
        number = chance.randrange(len(lines[name]))
        lines[name][number] = json.dumps(damaged(json.loads(lines[name][number]), chance, mark)).encode() + b"\n"
    for place, content in lines.items():
        (folder / place).write_bytes(b"".join(content))
    joined = with_labels(with_judgements(records, read_judgements(folder)), read_labels(folder))
    run = ReportedRun("run", {}, tuple(joined), {one.key: folder for one in joined})
    json.dumps(as_json(findings(run)), allow_nan=False)


TARGETS = (recipe, token, detector, calibration, judgements)


@contextmanager
def watched() -> Iterator[list[str]]:
    """What this thread does meanwhile that no file may cause; another test's thread may still run.

    An audit hook stays for the process: this one falls silent.
    """
    seen: list[str] = []
    watching = [True]
    thread = threading.get_ident()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if watching[0] and threading.get_ident() == thread and event.startswith(_FORBIDDEN):
            seen.append(f"{event} {ascii(arguments)[:80]}")

    sys.addaudithook(hook)
    try:
        yield seen
    finally:
        watching[0] = False


def fuzz(tries: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Tries of each target that were accepted and refused, and what failed."""
    counted: Counter[str] = Counter()
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as name, watched() as seen:
        folder, mark = Path(name), Path(name) / "ran"
        for number in range(tries):
            target = TARGETS[number % len(TARGETS)]
            place = f"{target.__name__}, seed {seed}, try {number}"
            begun, outcome = time.monotonic(), "accepted"
            try:
                target(random.Random(f"{seed} {number}"), folder, str(mark))
            except (ValueError, OSError) as error:
                outcome = "refused"
                said = str(error)
                if (
                    "\n" in said
                    or len(said) > LONGEST_MESSAGE
                    or isinstance(error, UnicodeError | json.JSONDecodeError)
                ):
                    failures.append(f"{place}: {type(error).__name__}: {ascii(said)[:300]}")
                expected = TokenFileError if target is token else Exception
                if not isinstance(error, expected):
                    failures.append(f"{place}: {type(error).__name__}, no {expected.__name__}: {ascii(said)[:200]}")
            except Exception as error:
                outcome = "broken"
                failures.append(f"{place}: {type(error).__name__}: {ascii(str(error))[:300]}")
            counted[f"{target.__name__} {outcome}"] += 1
            if (seconds := time.monotonic() - begun) > SECONDS:
                failures.append(f"{place}: {seconds:.0f} s")
            if seen or mark.exists():
                failures.append(f"{place}: ran something: {seen or mark}")
                seen.clear()
                if mark.exists():
                    mark.rmdir()
    return counted, failures


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fuzz_files", description=__doc__)
    parser.add_argument("--tries", type=int, default=1500, metavar="N", help="a fifth for each kind (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all files (%(default)s)")
    options = parser.parse_args()
    counted, failures = fuzz(options.tries, options.seed)
    for line in failures:
        print(line)
    outcomes = ", ".join(f"{number} x {outcome}" for outcome, number in sorted(counted.items()))
    print(f"{counted.total()} tries, {len(failures)} failures: {outcomes}")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
