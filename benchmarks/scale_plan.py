"""A large run on paper: `python -m benchmarks.scale_plan --prompts 1000000 --gpus 256`.

Every assumption is an argument and is printed; the driver's own work is measured here, on pictures of that size.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.evaluation.records import Record, RecordFile, to_line
from countgen.images import save_png
from countgen.prompts import Target

HOUR = 3600


def example(judges: int) -> Record:
    """The record of an image with ten objects, every one of them in a box of every judge."""
    names = tuple(f"torchvision:judge-{k}" for k in range(judges))
    box = (101, 202, 303, 404)
    return Record(
        schema=1,
        key="0" * 32,
        suite="t2icountbench-style",
        level="medium",
        prompt="a photo of ten apples on a wooden table in a bright kitchen",
        targets=(Target("apple", 10),),
        seed=700_000,
        backbone="sdxl-turbo",
        method="auto",
        critics=("yolo:yolo11x", "owl:owlv2"),
        judges=names,
        status="done",
        error=None,
        critic_counts=(10,),
        judge_counts=dict.fromkeys(names, (10,)),
        confidence=dict.fromkeys(names, 0.9),
        boxes=dict.fromkeys(names, (box,) * 10),
        confirmed=True,
        trace=((4, 0.4, False), (12, 1.2, True)),
        evaluations=12,
        seconds=1.2,
        peak_bytes=10**10,
        image=f"images/{'0' * 32}.png",
        before=f"images/{'0' * 32}-before.png",
    )


def picture(side: int) -> torch.Tensor:
    """Smooth shapes with a little grain, which a PNG shrinks about as much as a photograph."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, side // 16, side // 16, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic")[0]
    return (smooth + 0.02 * torch.randn(3, side, side, generator=generator)).clamp(0, 1)


def driver_work(side: int, record: Record) -> tuple[float, int]:
    """Seconds of a core to write the two pictures and the record of an image, and the bytes of one picture."""
    image = picture(side)
    seconds = []
    with tempfile.TemporaryDirectory() as name, RecordFile(Path(name) / "records.jsonl") as file:
        for k in range(5):
            started = time.process_time()
            path = save_png(image, Path(name) / f"{k}.png")
            save_png(image, Path(name) / f"{k}-before.png")
            file.append(record)
            seconds.append(time.process_time() - started)
        size = path.stat().st_size
    return statistics.median(seconds), size


def plan(options: argparse.Namespace, writing: float, picture_bytes: int, record_bytes: int) -> list[tuple[str, str]]:
    """What the run takes: a name and a sentence each."""
    images = options.prompts * options.methods
    shards = math.ceil(options.gpus / options.gpus_per_shard)
    per_image = options.seconds + options.judging
    gpu_hours = images * per_image / HOUR
    hours = gpu_hours / options.gpus
    each = images / shards
    # Keys fall into shards at random; the largest of n normal variables lies near sqrt(2 ln n) deviations above.
    spread = math.sqrt(each * (1 - 1 / shards)) * math.sqrt(2 * math.log(shards)) if shards > 1 else 0.0
    longest = hours * (1 + spread / each)
    rate = options.gpus_per_shard / per_image
    broken = gpu_hours / options.gpu_hours_to_failure
    preempted = shards * hours / options.hours_to_preemption
    redone = (broken + preempted * options.gpus_per_shard) * (per_image + options.loading) / HOUR
    size = images * (2 * picture_bytes + record_bytes)
    return [
        ("images", f"{options.prompts:,} prompts x {options.methods} method(s) = {images:,}"),
        ("GPU time", f"x ({options.seconds:g} s drawing + {options.judging:g} s judging) = {gpu_hours:,.0f} GPU-hours"),
        ("wall clock", f"/ {options.gpus} GPUs = {hours:.1f} h; the largest shard {longest:.1f} h"),
        ("cost", f"x {options.dollars:g} $ a GPU-hour = {gpu_hours * options.dollars:,.0f} $"),
        ("shards", f"{shards} of {options.gpus_per_shard} GPUs, {each:,.0f} images each, +- {spread:,.0f} by hashing"),
        ("a picture", f"{picture_bytes / 1e3:,.0f} kB; two an image; a record {record_bytes / 1e3:.2f} kB"),
        ("on disk", f"{size / 1e12:.2f} TB, of which records {images * record_bytes / 1e9:.2f} GB; "
         f"a shard {size / shards / 1e9:,.0f} GB in {2 * each:,.0f} files"),
        ("a shard's driver", f"{rate:.2f} images a second x {1e3 * writing:.0f} ms writing = "
         f"{100 * rate * writing:.0f} % of a core; it could feed {per_image / writing:.0f} GPUs"),
        ("broken GPUs", f"{gpu_hours:,.0f} / {options.gpu_hours_to_failure:,} GPU-hours = {broken:.2f} expected"),
        ("lost nodes", f"{shards} x {hours:.1f} h / {options.hours_to_preemption:g} h = {preempted:.1f} expected"),
        ("work done twice", f"one image and one loading ({options.loading:g} s) per lost GPU = {redone:.1f} GPU-hours, "
         f"{100 * redone / gpu_hours:.2f} %"),
    ]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale_plan", description=__doc__)
    parser.add_argument("--prompts", type=int, default=1_000_000)
    parser.add_argument("--methods", type=int, default=1, help="images of a prompt (%(default)s)")
    parser.add_argument("--gpus", type=int, default=256)
    parser.add_argument("--gpus-per-shard", type=int, default=8, help="of one node (%(default)s)")
    parser.add_argument("--side", type=int, default=512, help="pixels of a picture (%(default)s)")
    parser.add_argument("--seconds", type=float, default=8.0, help="drawing an image, the budget (%(default)s)")
    parser.add_argument("--judging", type=float, default=0.5, help="seconds judging it (%(default)s)")
    parser.add_argument("--judges", type=int, default=2)
    parser.add_argument("--dollars", type=float, default=2.5, help="a GPU-hour (%(default)s)")
    parser.add_argument("--loading", type=float, default=60.0, help="seconds to load the models (%(default)s)")
    parser.add_argument("--gpu-hours-to-failure", type=int, default=50_000, help="of a GPU (%(default)s)")
    parser.add_argument("--hours-to-preemption", type=float, default=24.0, help="of a node (%(default)s)")
    options = parser.parse_args(arguments)
    print("assumed: " + ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in vars(options).items()))
    record = example(options.judges)
    writing, picture_bytes = driver_work(options.side, record)
    print(f"measured here: {1e3 * writing:.0f} ms of a core to write an image's two pictures and its record\n")
    print("| what | how much |\n| --- | --- |")
    for name, sentence in plan(options, writing, picture_bytes, len(to_line(record))):
        print(f"| {name} | {sentence} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
