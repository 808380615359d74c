"""How faithful the critics are, on rendered scenes with known counts: `python -m benchmarks.critics [--sweep]`.

Soft against hard count, hard count against the truth by count and condition, thresholds, duplicate suppression,
cost. `--sweep` chooses threshold and steepness, on scenes of other seeds than those reported.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.counting import rate
from benchmarks.known_scenes import CONDITIONS, COUNTS, KnownScenes, known_scenes
from countgen import miniature
from critics import Critic, Proposals
from critics.losses import LOSSES
from critics.soft_indicator import hard_count, soft_count

GROUPS = {"0-10": range(11), "11-20": range(11, 21)}
THRESHOLDS = tuple(round(0.1 + 0.05 * step, 2) for step in range(15))
STEEPNESSES = (1.0, 2.0, 4.0, 8.0, 16.0)
OVERLAPS = (0.3, 0.4, 0.45, 0.5, 0.6, 0.7)
FAITHFUL = 0.15
"""Of the steepnesses with a mean |soft - hard| up to this, the lowest is chosen: its gradient reaches farthest.

Half of what is asked for along real runs, whose pictures are harder."""


@dataclass
class Readings:
    """What one critic said of scenes; every list has one entry per scene.

    Attributes:
        condition: of the scene.
        truth: the number of objects.
        hard, soft: the critic's counts.
        by_threshold, by_overlap, by_steepness: hard counts at `THRESHOLDS` and `OVERLAPS`, soft ones at
            `STEEPNESSES`; empty for a critic without candidates.
    """

    condition: list[str] = field(default_factory=list)
    truth: list[int] = field(default_factory=list)
    hard: list[int] = field(default_factory=list)
    soft: list[float] = field(default_factory=list)
    by_threshold: list[list[int]] = field(default_factory=list)
    by_overlap: list[list[int]] = field(default_factory=list)
    by_steepness: list[list[float]] = field(default_factory=list)

    def rows(self, condition: str | None = None, counts: Sequence[int] = COUNTS) -> NDArray[np.bool_]:
        """Which scenes are of a condition and of certain counts."""
        chosen = np.isin(self.truth, list(counts))
        return chosen if condition is None else chosen & (np.array(self.condition) == condition)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.critics", description=__doc__)
    parser.add_argument("--critics", nargs="+", default=list(miniature.DETECTORS), choices=list(miniature.DETECTORS))
    parser.add_argument("--scenes", type=int, default=2100, help="rendered scenes, each under four conditions")
    parser.add_argument("--sweep", action="store_true", help="choose threshold and steepness instead of reporting")
    parser.add_argument("--out", type=Path, default=Path("docs/critics"), help="folder for tables, figures, plots")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    per_count = max(1, round(options.scenes / len(COUNTS)))
    critics = [miniature.load_detector(name) for name in options.critics]
    readings = read(critics, per_count, "tuning" if options.sweep else "reporting")
    options.out.mkdir(parents=True, exist_ok=True)
    if options.sweep:
        text, figures = sweep(readings)
        name = "sweep"
    else:
        text, figures = report(readings, critics)
        name = "report"
        plot(readings, options.out)
    (options.out / f"{name}.md").write_text(text)
    (options.out / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(text)
    return 0


def read(critics: Sequence[Critic], per_count: int, purpose: str) -> dict[str, Readings]:
    """Show every critic the same scenes."""
    found = {critic.name: Readings() for critic in critics}
    for scenes in known_scenes(per_count, purpose):
        for critic in critics:
            look(critic, scenes, found[critic.name])
    return found


@torch.no_grad()
def look(critic: Critic, scenes: KnownScenes, readings: Readings) -> None:
    """Add a critic's counts of some scenes."""
    number = len(scenes.images)
    readings.condition += [scenes.condition] * number
    readings.truth += [scenes.count] * number
    if not has_candidates(critic):
        seen = critic.assess(scenes.images, {scenes.object_name: scenes.count}, LOSSES["l1"])
        readings.hard += seen.counts[:, 0].tolist()
        readings.soft += seen.soft_counts[:, 0].tolist()
        return
    proposals = critic.propose(scenes.images, [scenes.object_name])
    (candidates,) = critic.select(proposals)
    logit = critic.threshold_logit
    readings.hard += hard_count(candidates, logit).tolist()
    readings.soft += soft_count(candidates, logit, critic.steepness).tolist()
    soft = torch.stack([soft_count(candidates, logit, steepness) for steepness in STEEPNESSES], 1)
    readings.by_steepness += soft.tolist()
    thresholds = [with_settings(critic, threshold, critic.nms_iou, proposals) for threshold in THRESHOLDS]
    readings.by_threshold += torch.stack(thresholds, 1).tolist()
    if critic.nms_iou is not None:
        overlaps = [with_settings(critic, critic.threshold, overlap, proposals) for overlap in OVERLAPS]
        readings.by_overlap += torch.stack(overlaps, 1).tolist()


def with_settings(critic: Critic, threshold: float, nms_iou: float | None, proposals: Proposals) -> Tensor:
    """Hard counts int64 (B,) of the same proposals at other settings."""
    other = copy.copy(critic)
    # The threshold also caps what a box of another class may score.
    other.threshold, other.nms_iou = threshold, nms_iou
    return hard_count(other.select(proposals)[0], other.threshold_logit)


def has_candidates(critic: Critic) -> bool:
    """Whether it finds boxes."""
    return type(critic).propose is not Critic.propose


def report(readings: dict[str, Readings], critics: Sequence[Critic]) -> tuple[str, dict[str, object]]:
    """Tables in markdown, and the figures in them."""
    settings = {
        critic.name: {"threshold": critic.threshold, "steepness": critic.steepness, "nms_iou": critic.nms_iou}
        if has_candidates(critic)
        else {}
        for critic in critics
    }
    number = len(next(iter(readings.values())).truth)
    figures: dict[str, object] = {"scenes": number // len(CONDITIONS), "settings": settings}
    parts = [f"# Critics on {number // len(CONDITIONS)} rendered scenes, each under {len(CONDITIONS)} conditions\n"]
    exact, error, faithful = {}, {}, {}
    for name, found in readings.items():
        difference = np.abs(np.array(found.hard) - found.truth)
        gap = np.abs(np.array(found.soft) - found.hard)
        for condition in CONDITIONS:
            for group, counts in GROUPS.items():
                chosen = found.rows(condition, counts)
                exact[name, condition, group] = rate((difference[chosen] == 0).tolist())
                error[name, condition, group] = float(difference[chosen].mean())
                faithful[name, condition, group] = float(gap[chosen].mean())
    head = [f"{condition} {group}" for condition in CONDITIONS for group in GROUPS]
    keys = [(condition, group) for condition in CONDITIONS for group in GROUPS]
    parts += [
        "Exact count, % [95 % interval]\n",
        _table(["critic", *head], [[name, *(exact[name, *key] for key in keys)] for name in readings]),
        "Mean absolute error of the count\n",
        _table(["critic", *head], [[name, *(f"{error[name, *key]:.2f}" for key in keys)] for name in readings]),
        "Mean |soft - hard|\n",
        _table(["critic", *head], [[name, *(f"{faithful[name, *key]:.2f}" for key in keys)] for name in readings]),
    ]
    by_count = {}
    for name, found in readings.items():
        right = np.array(found.hard) == found.truth
        by_count[name] = {c: [100 * right[found.rows(c, [n])].mean() for n in COUNTS] for c in CONDITIONS}
        rows = [[c, *(f"{share:.0f}" for share in by_count[name][c])] for c in CONDITIONS]
        parts += [f"Exact count by number of objects, {name}, %\n", _table(["", *map(str, COUNTS)], rows)]
    for name, found in readings.items():
        if found.by_threshold:
            parts += [f"Exact count by threshold, {name}, %\n", _shares(found, found.by_threshold, THRESHOLDS)]
        if found.by_overlap:
            parts += [f"Exact count by NMS IoU, {name}, %\n", _shares(found, found.by_overlap, OVERLAPS)]
    costs = {critic.name: cost(critic) for critic in critics}
    first = next(iter(costs.values()))
    rows = [[name, f"{1000 * value:.1f}", f"{value / first:.2f}"] for name, value in costs.items()]
    parts += ["Forward and backward of one picture\n", _table(["critic", "ms", f"times {next(iter(costs))}"], rows)]
    seconds = import_seconds()
    parts.append(f"`import critics` takes {seconds:.2f} s longer than `import torch` and loads no detector library.\n")
    figures |= {"by_count": by_count, "seconds": costs, "import_seconds": seconds}
    figures["exact"] = {" ".join(key): value for key, value in exact.items()}
    figures["mae"] = {" ".join(key): value for key, value in error.items()}
    figures["soft_minus_hard"] = {" ".join(key): value for key, value in faithful.items()}
    return "\n".join(parts), figures


def sweep(readings: dict[str, Readings]) -> tuple[str, dict[str, object]]:
    """Threshold in the middle of the best ones, and the lowest steepness that is faithful enough."""
    figures: dict[str, object] = {}
    parts = ["# Threshold and steepness, chosen on scenes that nothing is reported on\n"]
    for name, found in readings.items():
        if not found.by_threshold:
            continue
        low = found.rows(counts=GROUPS["0-10"])
        truth = np.array(found.truth)[:, None]
        right = (np.array(found.by_threshold) == truth)[low].mean(0)
        best = [t for t, share in zip(THRESHOLDS, right, strict=True) if share >= right.max() - 0.002]
        gaps = np.abs(np.array(found.by_steepness) - np.array(found.hard)[:, None]).mean(0)
        faithful = [s for s, gap in zip(STEEPNESSES, gaps, strict=True) if gap <= FAITHFUL]
        chosen = {"threshold": best[len(best) // 2], "steepness": faithful[0] if faithful else STEEPNESSES[-1]}
        figures[name] = chosen | {
            "exact by threshold": dict(zip(map(str, THRESHOLDS), right.round(4).tolist(), strict=True)),
            "mean |soft - hard| by steepness": dict(zip(map(str, STEEPNESSES), gaps.round(4).tolist(), strict=True)),
        }
        parts += [
            f"{name}: threshold {chosen['threshold']}, steepness {chosen['steepness']}\n",
            _table(["threshold", *map(str, THRESHOLDS)], [["exact 0-10, %", *(f"{100 * r:.1f}" for r in right)]]),
            _table(["steepness", *map(str, STEEPNESSES)], [["mean abs(soft - hard)", *(f"{g:.3f}" for g in gaps)]]),
        ]
    return "\n".join(parts), figures


def cost(critic: Critic, repeats: int = 9) -> float:
    """Median seconds of a forward and backward pass on one 128-pixel picture."""
    image = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        critic.assess(image, {"apple": 5}, LOSSES["margin"]).loss.sum().backward()
        times.append(time.perf_counter() - start)
    return sorted(times)[repeats // 2]


def import_seconds() -> float:
    """What importing `critics` adds to importing torch."""
    program = (
        "import time, torch; start = time.perf_counter(); import critics, sys; print(time.perf_counter() - start); "
        "assert not {'ultralytics', 'transformers', 'torchvision'} & set(sys.modules)"
    )
    return float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)


def plot(readings: dict[str, Readings], folder: Path) -> None:
    """Soft against hard count, and exact count by number of objects, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, len(readings), figsize=(4 * len(readings), 7), squeeze=False)
    for column, (name, found) in enumerate(readings.items()):
        above, below = axes[0][column], axes[1][column]
        above.plot([0, 22], [0, 22], color="lightgrey")
        above.scatter(found.hard, found.soft, s=4, alpha=0.3)
        above.set(title=name, xlabel="hard count", ylabel="soft count")
        right = np.array(found.hard) == found.truth
        for condition in CONDITIONS:
            below.plot(COUNTS, [100 * right[found.rows(condition, [n])].mean() for n in COUNTS], label=condition)
        below.set(xlabel="objects in the scene", ylabel="exact count, %", ylim=(0, 102))
        below.legend()
    figure.tight_layout()
    figure.savefig(folder / "faithfulness.png", dpi=100)
    pyplot.close(figure)


def _shares(found: Readings, counts: list[list[int]], settings: Sequence[float]) -> str:
    right = np.array(counts) == np.array(found.truth)[:, None]
    rows = [[c, *(f"{100 * share:.1f}" for share in right[found.rows(c)].mean(0))] for c in CONDITIONS]
    return _table(["", *map(str, settings)], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
