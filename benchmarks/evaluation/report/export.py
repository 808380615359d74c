"""Export a run: its findings as JSON, its records as Parquet."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from msgspec import structs

from countgen.benchmarks.evaluation.image_statistics import NAMES, statistics_of
from countgen.benchmarks.evaluation.metrics import is_right, total
from countgen.benchmarks.evaluation.records import Record
from countgen.benchmarks.evaluation.report.reported_run import ReportedRun
from countgen.files.folder import output_path
from countgen.files.writing import write_atomically

if TYPE_CHECKING:
    import pyarrow


def as_json(value: Any) -> str:
    """Return dataclasses, mappings, arrays and sequences as JSON in ASCII; unknown and infinite numbers are null."""
    # msgspec writes null for a number that is not finite; json escapes characters that a terminal obeys.
    return json.dumps(msgspec.json.decode(msgspec.json.encode(value, enc_hook=np.ndarray.tolist)))


def write_parquet(run: ReportedRun, path: Path) -> None:
    """Write a row per record: its fields, the total target count, whether it is right by the first judge, statistics.

    The statistics are those of the pixels of the image and of the plain image of its seed; null without the file.

    Raises:
        ValueError: pyarrow is not installed.
        OSError: the file cannot be written.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError("Parquet needs pyarrow: pip install 'countgen[report]'") from error
    try:
        rows = [_row(run, record) for record in run.records]
        table = pyarrow.Table.from_pylist(rows, schema=_schema(pyarrow))
    except (OverflowError, UnicodeEncodeError) as error:
        raise ValueError(f"Parquet cannot hold these records: {error}") from error
    file = io.BytesIO()
    parquet.write_table(table, file)
    write_atomically(file.getvalue(), output_path(path, set(run.folders.values())))


def _row(run: ReportedRun, record: Record) -> dict[str, Any]:
    paths = run.image_path(record), run.image_path(record, before=True)
    measured = {path: statistics_of(path) for path in set(paths) if path}
    statistics, plain_statistics = (measured.get(path) if path else None for path in paths)
    return structs.asdict(record) | {
        "targets": [asdict(target) for target in record.targets],
        "judge_counts": list(record.judge_counts.items()),
        "confidence": list(record.confidence.items()),
        "boxes": list(record.boxes.items()),
        "trace": [{"evaluations": e, "seconds": s, "right": right} for e, s, right in record.trace],
        "total": total(record),
        "right": is_right(record, record.judges[0]),
        "image_statistics": statistics and asdict(statistics),
        "plain_image_statistics": plain_statistics and asdict(plain_statistics),
    }


def _schema(pa: ModuleType) -> pyarrow.Schema:
    text, whole, real = pa.string(), pa.int64(), pa.float64()
    target = pa.struct([("object_name", text), ("target_count", whole)])
    step = pa.struct([("evaluations", whole), ("seconds", real), ("right", pa.bool_())])
    statistics = pa.struct([(name, real) for name in NAMES])
    types = {
        **dict.fromkeys(("key", "suite", "level", "prompt", "backbone", "method", "status"), text),
        **dict.fromkeys(("error", "image", "before", "listed_as"), text),
        **dict.fromkeys(("schema", "seed", "evaluations", "peak_bytes", "total"), whole),
        **dict.fromkeys(("critics", "judges"), pa.list_(text)),
        **dict.fromkeys(("confirmed", "truncated", "right"), pa.bool_()),
        **dict.fromkeys(("seconds", "objects_kept", "background_change", "structural_similarity", "probability"), real),
        **dict.fromkeys(("image_statistics", "plain_image_statistics"), statistics),
        "targets": pa.list_(target),
        "critic_counts": pa.list_(whole),
        "judge_counts": pa.map_(text, pa.list_(whole)),
        "confidence": pa.map_(text, real),
        "boxes": pa.map_(text, pa.list_(pa.list_(whole))),
        "trace": pa.list_(step),
    }
    names = (*Record.__struct_encode_fields__, "total", "right", "image_statistics", "plain_image_statistics")
    return pa.schema([(name, types[name]) for name in names])
