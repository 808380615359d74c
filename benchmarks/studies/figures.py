"""The figures of docs/how-it-works.md: `python -m benchmarks.studies.figures`.

Drawn from the functions that steer, never from formulas written a second time.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

import countgen
from benchmarks.evaluation.plots import COLOURS, STYLE, save
from countgen.methods.problem import Problem
from countgen.methods.refinement import RefinementSettings, refine
from countgen.methods.step import Budget, Step
from critics import Candidates, Critic
from critics.losses import LOSSES
from critics.soft_indicator import soft_indicator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROMPT = "a photo of seven apples"
SHOWN = 14
"""Ranked candidates in the figure of a run."""


def soft_indicators(steepnesses: Sequence[float] = (1, 4, 12)) -> Figure:
    """Return soft indicators of several steepnesses over the distance from the threshold, and the hard one."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    distance = torch.linspace(-4, 4, 161)
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3), layout="constrained")
        axes = figure.subplots()
        axes.step([-4, 0, 4], [0, 0, 1], where="pre", color="#8c959f", lw=1.5, label="hard: z > τ")
        for colour, steepness in zip(COLOURS, steepnesses, strict=False):
            axes.plot(
                distance, soft_indicator(distance, 0.0, steepness), color=colour, lw=2, label=f"β = {steepness:g}"
            )
        axes.set(xlabel="logit above the threshold, z − τ", ylabel="counted as", yticks=(0, 0.5, 1))
        axes.grid(axis="y")
        axes.legend()
    return figure


def losses_of_a_missing_object() -> Figure:
    """Return every loss, and its gradient, while the third of three objects rises from nowhere to certain."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    moved = torch.linspace(-6, 4, 201)[:, None].requires_grad_()
    sure = torch.tensor([4.0, 4.0]).expand(len(moved), -1)
    logits = torch.cat([sure, moved, torch.full((len(moved), 3), -7.0)], 1)
    candidates = Candidates(torch.zeros(*logits.shape, 4), logits, torch.ones_like(logits, dtype=torch.bool))
    with rc_context(STYLE):
        figure = Figure(figsize=(8, 3), layout="constrained")
        values, slopes = figure.subplots(1, 2)
        for colour, (name, loss) in zip(COLOURS, LOSSES.items(), strict=False):
            value = loss(candidates, 3, 0.0)
            (slope,) = torch.autograd.grad(value.sum(), moved, retain_graph=True)
            at = moved.detach()[:, 0]
            values.plot(at, value.detach(), color=colour, lw=2, label=name)
            slopes.plot(at, slope[:, 0].abs(), color=colour, lw=2)
        values.set(title="loss, two of three objects are sure", xlabel="z − τ of the third")
        slopes.set(title="size of its gradient", xlabel="z − τ of the third")
        for axes in (values, slopes):
            axes.axvline(0, color="#8c959f", lw=1, ls=":")
            axes.grid(axis="y")
        values.legend()
    return figure


def ranked_logits(critic: Critic, image: Tensor, object_name: str) -> Tensor:
    """Return logits of the kept candidates above the threshold's, best first, float32 (SHOWN,)."""
    with torch.no_grad():
        (found,) = critic.candidates(image[None], [object_name])
    logits = found.logits[0].masked_fill(~found.kept[0], float("-inf")) - critic.threshold_logit
    return logits.sort(descending=True).values[:SHOWN]


def one_run(models: countgen.Models) -> Figure:
    """Return the ranked logits of the first and last candidate of a run that begins wrong and ends right."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    (target,) = countgen.parse(PROMPT)
    seed, first, last = next(run for run in _runs(models, target) if run[1].margin < 0 and run[2].confirmed)
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.2), layout="constrained")
        axes = figure.subplots()
        for colour, marker, step in ((COLOURS[1], "o", first), (COLOURS[0], "s", last)):
            logits = ranked_logits(models.critics[0], step.image, target.object_name)
            label = f"step {step.index}: counts {step.counts[0]}"
            axes.plot(range(1, SHOWN + 1), logits, marker=marker, ms=5, lw=1, color=colour, label=label)
        axes.axhline(0, color="#24292f", lw=1)
        axes.axvline(target.target_count + 0.5, color="#8c959f", lw=1, ls=":")
        axes.set(
            title=f"{PROMPT}, seed {seed}", xlabel="candidate, best first", ylabel="z − τ", xticks=range(1, SHOWN + 1)
        )
        axes.legend()
    return figure


def _runs(models: countgen.Models, target: countgen.Target) -> Iterator[tuple[int, Step, Step]]:
    """Yield seed, first and last step of gradient descent from one seed after the other."""
    with torch.no_grad():
        problem = Problem(models.backbone, models.critics, (target,), models.backbone.encode_prompt(PROMPT))
    for seed in count():
        latents = models.backbone.initial_latents([seed])
        steps = list(refine(problem, latents, [seed], Budget(), RefinementSettings()))
        yield seed, steps[0], steps[-1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.figures", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    models = countgen.load("miniature", device="cpu")
    drawn = {
        "soft-indicators": soft_indicators(),
        "losses": losses_of_a_missing_object(),
        "one-run": one_run(models),
    }
    for name, figure in drawn.items():
        path = options.out / f"{name}.svg"
        save(figure, path)
        print(f"{path}: {path.stat().st_size / 1024:.0f} KB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
