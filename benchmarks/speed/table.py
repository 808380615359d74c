"""The table of timings: what is measured becomes a row, which is printed and kept at once."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from countgen.backbones.cuda_graphs import CUDAGraphs, root_cause
from countgen.benchmarks.speed.clock import GIB, Measured, forget, measure
from countgen.benchmarks.speed.models import BuiltModel
from countgen.errors import CountGenError

Prepared = tuple[Callable[[], object], str]
"""What is timed, and a note for its row."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        milliseconds: of one iteration of the whole batch, median.
        to_reno: how many times as fast per image as ReNO's loop.
        to_floor: how many times as long as the counted FLOPs would take at the matrix product's rate.
        allocated_gib, reserved_gib: peaks, weights included; a graph's activations are reserved and never show as
            allocated, so that cell is empty and targets are read from what is reserved.
        note: what else was seen, or why there is no time.
    """

    model: str
    what: str
    batch_size: int = 1
    milliseconds: float | None = None
    to_reno: float | None = None
    to_floor: float | None = None
    allocated_gib: float | None = None
    reserved_gib: float | None = None
    note: str = ""

    def line(self) -> str:
        """Return a row of a Markdown table."""
        numbers = (self.milliseconds, self.to_reno, self.to_floor, self.allocated_gib, self.reserved_gib)
        cells = ("" if number is None else f"{number:.2f}" for number in numbers)
        return f"| {self.model} | {self.what} | {self.batch_size} | {' | '.join(cells)} | {self.note} |"


HEADER = (
    "| model | what | batch | ms | x faster than ReNO | x floor | allocated GiB | reserved GiB | note |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


class Bench:
    """Runs one variant after the other; one that fails leaves its error in the table and the others run.

    Attributes:
        rows: so far.
        reno: seconds of ReNO's loop for the model at hand.
        rate: FLOP/s of a matrix product, for the floor.
        graphs: of the variant at hand, released after it.
    """

    def __init__(
        self,
        device: torch.device,
        size: str,
        repeats: int,
        out: Path | None,
        max_seconds: float,
        only: Sequence[str] = (),
    ) -> None:
        self.device = device
        self.size = size
        self.repeats = repeats
        self.dtype = torch.float16 if device.type == "cuda" else torch.float32
        self.reno: float | None = None
        self.rate = float("nan")
        self.rows: list[Row] = []
        self.graphs = CUDAGraphs()
        self.machine: dict[str, object] = {
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        }
        self._out = out
        self._only = tuple(only)
        self._ends = time.perf_counter() + max_seconds
        print(HEADER, flush=True)

    def wanted(self, what: str) -> bool:
        """Whether a variant of this name was asked for."""
        return not self._only or any(part in what for part in self._only)

    def add(self, row: Row) -> None:
        """Print a row, and write all there are."""
        self.rows.append(row)
        print(row.line(), flush=True)
        if self._out is not None:
            self._out.write_text(json.dumps({**self.machine, "rows": [asdict(row) for row in self.rows]}, indent=1))

    def run(
        self,
        model: BuiltModel,
        what: str,
        prepare: Callable[[], Prepared],
        batch_size: int = 1,
        *,
        floor: int | None = None,
    ) -> Measured | None:
        """Time one variant.

        Args:
            model: that is timed.
            what: the row's name.
            prepare: builds what is called, and a note for the row.
            batch_size: images per call.
            floor: FLOPs of one image, for the ratio.
        """
        if not self.wanted(what):
            return None
        row = Row(model.backbone.name, what, batch_size)
        if time.perf_counter() > self._ends:
            self.add(replace(row, note="not run: out of time"))
            return None
        forget(self.device)
        try:
            call, note = prepare()
            measured = measure(call, self.device, self.repeats)
        except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError, CountGenError) as error:
            self.add(replace(row, note=f"failed: {root_cause(error)}"))
            return None
        finally:
            self.graphs.clear()
        each = measured.seconds / batch_size
        self.add(
            replace(
                row,
                milliseconds=1e3 * measured.seconds,
                to_reno=self.reno / each if self.reno else None,
                to_floor=each / (floor / self.rate) if floor else None,
                allocated_gib=None if "graph" in what else measured.allocated / GIB or None,
                reserved_gib=measured.reserved / GIB or None,
                note=note,
            )
        )
        return measured
