"""Records that no model made: of one case, and of run folders."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from msgspec import to_builtins
from msgspec.structs import replace
from PIL import Image

from countgen.benchmarks.evaluation.records import RECORDS, SETTINGS, Record
from countgen.images import save_png

LEVELS = ("easy", "medium", "hard", "beyond")
JUDGES = ("detector", "counter")


def record(method: str = "plain", seed: int = 0, counted: int | None = 3, asked: int = 3, **changed: Any) -> Record:
    """One record; `counted` None makes it failed."""
    done = counted is not None
    found = (counted,) if done else ()
    fields: dict[str, Any] = {
        "key": f"{method}-{asked}-{seed}",
        "suite": "made",
        "level": LEVELS[min(3, (asked - 1) // 5)],
        "prompt": f"a photo of {asked} apples",
        "wanted": {"apple": asked},
        "seed": seed,
        "backbone": "miniature",
        "method": method,
        "critics": ("critic",),
        "judges": JUDGES,
        "status": "done" if done else "failed",
        "error": None if done else "ValueError: made to fail",
        "critic_counts": found,
        "judge_counts": dict.fromkeys(JUDGES, found) if done else {},
        "confidence": {"detector": 0.8, "counter": 0.0} if done else {},
        "boxes": {"detector": ((1, 1, 5, 5),) * (counted or 0), "counter": ()} if done else {},
        "confirmed": done,
        "trace": ((1, 0.1, counted == asked),) if done else (),
        "evaluations": int(done),
        "seconds": 0.1,
        "peak_bytes": None,
        "image": None,
        "before": None,
    }
    return Record(**fields | changed)


def write_run(
    folder: Path, records: list[Record], methods: tuple[str, ...] = ("plain", "auto"), **settings: Any
) -> Path:
    """Write a run folder with an image for every finished record, and return it."""
    (folder / "images").mkdir(parents=True)
    (folder / SETTINGS).write_text(
        json.dumps({"methods": list(methods), "max_evaluations": 9, "shard": "1/1"} | settings)
    )
    lines = []
    for one in records:
        if one.status == "done":
            name = f"images/{one.key}.png"
            save_png(Image.new("RGB", (32, 24), (200, 30 * one.seed % 255, 90)), folder / name)
            one = replace(one, image=name, before=name)
        lines.append(one.to_line())
    (folder / RECORDS).write_bytes(b"".join(lines))
    return folder


def table_run(folder: Path) -> Path:
    """Write a run in which plain is right at 3 of 8, auto at 6 of 8, and one image failed."""
    records = [record("plain", seed, 3 if seed < 3 else 4) for seed in range(8)]
    records += [record("auto", seed, 3 if seed < 6 else None if seed == 6 else 5) for seed in range(8)]
    return write_run(folder, records)


def comparable(records: Iterable[Record]) -> list[dict[str, Any]]:
    """The results of a run without its times, ordered by key: equal for equal runs."""
    documents = []
    for one in sorted(records, key=lambda record: record.key):
        document = to_builtins(one) | {"trace": [(evaluations, right) for evaluations, _, right in one.trace]}
        documents.append({name: value for name, value in document.items() if name not in ("seconds", "peak_bytes")})
    return documents
