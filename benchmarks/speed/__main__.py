"""Time one optimisation iteration of full-size models, and what it is made of: `python -m countgen.benchmarks.speed`.

On a GPU: SDXL-Turbo, SD-Turbo and PixArt-DMD at 512x512 with random weights, so nothing is downloaded, with a
full-size YOLO as critic. Each time is also given as a ratio to a plain re-implementation of ReNO's loop in the
same run, and to the floor: counted FLOPs over the measured rate of a large matrix product. On a CPU: the
miniature, against the bare torch loop.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from countgen.backbones import PromptEmbeds
from countgen.backbones.cuda_graphs import CapturedFunction
from countgen.benchmarks.speed.clock import GIB, count_flops, forget, matmul_rate
from countgen.benchmarks.speed.models import SIZES, TIMED, BuiltModel, build, build_critic, device_of, models_of
from countgen.benchmarks.speed.reno import plain_again, reno_step
from countgen.benchmarks.speed.table import Bench, Prepared, Row
from countgen.critics.base import Critic
from countgen.methods.forward_backward import ForwardBackward, captured, eager
from countgen.methods.objective import CONFIRMATION_VIEWS, PLAIN_VIEW, Objective
from countgen.methods.problem import Problem
from countgen.methods.refinement import OPTIMIZERS, RefinementSettings, clip, latent_prior, refine
from countgen.methods.step import Budget
from countgen.prompts import Target

TARGETS = (Target("apple", 5),)
STEPS = 20
LAYOUTS_OF = "sdxl-turbo"
"""The model on which memory layouts are compared."""
VIEWS = {"one view": PLAIN_VIEW, "three views": CONFIRMATION_VIEWS}


class ModelBench(Bench):
    """Every variant of the full-size models."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._flops: dict[tuple[bool, str], int] = {}

    def model(self, name: str) -> None:
        """Time every variant of one model."""
        started = time.perf_counter()
        model = build(name, self.size, self.device, self.dtype)
        critic = build_critic(self.size, self.device)
        with torch.no_grad():
            embeds = model.encode()
        note = f"built in {time.perf_counter() - started:.0f} s"
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors_of(embeds)):
            embeds = embeds.map(lambda tensor: torch.randn_like(tensor) if tensor.is_floating_point() else tensor)
            note += "; the random text encoder overflowed, embeddings are random"
        self.rate = matmul_rate(self.device, self.dtype)
        self.add(Row(name, "matrix product", note=f"{self.rate / 1e12:.1f} TFLOP/s {self.dtype}; {note}"))

        def objective_on(views: str, size: int | None = None) -> Objective:
            sized = critic if size is None else build_critic(self.size, self.device, size)
            return Objective((sized,), TARGETS, VIEWS[views])

        self.reno = None
        reno = self.run(model, "ReNO's loop", partial(self._reno_call, model, critic))
        self.reno = reno.seconds if reno else None
        plain_again(model)
        model.free_encoders()
        forget(self.device)
        self._flops = {}
        drafts = (False,) if model.backbone.tiny_vae is None else (False, True)
        for draft in drafts:
            for views in VIEWS:
                what = f"{'tiny' if draft else 'full'} decoder, {views}"
                if not any(self.wanted(f"{how}, {what}") for how in ("eager", "graph")):
                    continue
                objective = objective_on(views)
                floor = self._count(model, embeds, objective, draft, views)
                self.run(model, f"eager, {what}", partial(self._eager, model, embeds, 1, objective, draft), floor=floor)
                self.run(model, f"graph, {what}", partial(self._graph, model, embeds, 1, objective, draft), floor=floor)
        objective = objective_on("one view")
        for size in (4, 8):
            for draft in drafts:
                what = f"graph, {'tiny' if draft else 'full'} decoder, one view"
                floor = self._flops.get((draft, "one view"))
                self.run(model, what, partial(self._graph, model, embeds, size, objective, draft), size, floor=floor)
        for size in (1, 4, 8):
            for draft in drafts:
                what = f"forward only, {'tiny' if draft else 'full'} decoder, one view"
                self.run(model, f"{what}, eager", partial(self._forward, model, embeds, size, objective, draft), size)
                self.run(
                    model, f"{what}, graph", partial(self._forward_graph, model, embeds, size, objective, draft), size
                )
        for draft in drafts:
            whole = f"refine, {STEPS} steps, {'tiny' if draft else 'full'} decoder, three views"
            self.run(model, whole, partial(self._refine, model, embeds, critic, draft))
        if name == LAYOUTS_OF:
            self._layouts(model, embeds, objective)
        model.backbone.save_memory()
        for views in reversed(VIEWS):
            # The library's critics then see images no larger than they are.
            low = objective_on(views, 32 if self.size == "tiny" else 512)
            self.run(model, f'memory="low", smaller {views}', partial(self._eager, model, embeds, 1, low, False))

    def _layouts(self, model: BuiltModel, embeds: PromptEmbeds, objective: Objective) -> None:
        """Time the graph with other memory layouts and with cuDNN's own search."""
        if self.device.type != "cuda":
            return
        vae, denoiser = model.backbone.pipeline.vae, model.backbone.denoiser
        for what, modules in (("VAE", [vae]), ("VAE and denoiser", [vae, denoiser])):
            for module in modules:
                module.to(memory_format=torch.channels_last)
            self.run(
                model,
                f"graph, {what} channels_last",
                partial(self._graph, model, embeds, 1, objective, False),
                floor=self._flops.get((False, "one view")),
            )
        torch.backends.cudnn.benchmark = True
        for draft in (False, True):
            what = f"graph, both channels_last, cuDNN's search, {'tiny' if draft else 'full'} decoder"
            floor = self._flops.get((draft, "one view"))
            self.run(model, what, partial(self._graph, model, embeds, 1, objective, draft), floor=floor)
        for module in (vae, denoiser):
            module.to(memory_format=torch.contiguous_format)
        what, floor = "graph, cuDNN's search, full decoder", self._flops.get((False, "one view"))
        self.run(model, what, partial(self._graph, model, embeds, 1, objective, False), floor=floor)
        torch.backends.cudnn.benchmark = False

    def _refine(self, model: BuiltModel, embeds: PromptEmbeds, critic: Critic, draft: bool) -> Prepared:
        """Return a whole refinement of the library; it drafts wherever there is a tiny decoder."""
        backbone = model.backbone.uncached_copy()
        if not draft:
            backbone.tiny_vae = None
        latents = backbone.initial_latents([0])
        settings = RefinementSettings(num_optimization_steps=STEPS)
        problem = Problem(backbone, (critic,), TARGETS, embeds)

        def run() -> None:
            for _ in refine(problem, latents, [0], Budget(), settings):
                pass

        return run, ""

    def _reno_call(self, model: BuiltModel, critic: Critic) -> Prepared:
        latents = model.backbone.initial_latents([0]).requires_grad_(True)
        objective = Objective((critic,), TARGETS, PLAIN_VIEW)
        return reno_step(model, latents, lambda images: objective.evaluate(images).loss), ""

    def _count(
        self, model: BuiltModel, embeds: PromptEmbeds, objective: Objective, draft: bool, views: str
    ) -> int | None:
        """Return the FLOPs of one iteration, and add them as a row of their own; None where they cannot be counted."""
        passes = eager(model.backbone, embeds, [0], objective, draft=draft)
        latents = model.backbone.initial_latents([0])
        what = f"counted, {'tiny' if draft else 'full'} decoder, {views}"

        def once() -> None:
            passes.forward(latents)
            passes.backward()

        try:
            flops = count_flops(once)
        except (RuntimeError, AssertionError) as error:
            self.add(Row(model.backbone.name, what, note=f"failed: {str(error)[:200]}"))
            return None
        self._flops[draft, views] = flops
        note = f"{flops / 1e12:.3f} TFLOP with critic: floor {1e3 * flops / self.rate:.1f} ms"
        self.add(Row(model.backbone.name, what, note=note))
        return flops

    def _eager(self, model: BuiltModel, embeds: PromptEmbeds, size: int, objective: Objective, draft: bool) -> Prepared:
        passes = eager(model.backbone, embeds, list(range(size)), objective, draft=draft)
        return optimisation_step(passes, model.backbone.initial_latents(range(size))), ""

    def _graph(self, model: BuiltModel, embeds: PromptEmbeds, size: int, objective: Objective, draft: bool) -> Prepared:
        started = time.perf_counter()
        passes = captured(model.backbone, embeds, size, objective, self.graphs, draft=draft)
        note = f"captured in {time.perf_counter() - started:.1f} s"
        latents = model.backbone.initial_latents(range(size))
        if self.device.type == "cuda":
            note += f", peak {torch.cuda.max_memory_reserved() / GIB:.2f} GiB"
        if size == 1:
            note += "; " + agreement(eager(model.backbone, embeds, [0], objective, draft=draft), passes, latents)
            # What the comparison held is not the graph's.
            forget(self.device)
        return optimisation_step(passes, latents), note

    def _forward(
        self, model: BuiltModel, embeds: PromptEmbeds, size: int, objective: Objective, draft: bool
    ) -> Prepared:
        latents = model.backbone.initial_latents(range(size))

        @torch.no_grad()
        def evaluate() -> None:
            objective.evaluate(model.backbone.render(latents, embeds, draft=draft)).margin.tolist()

        return evaluate, ""

    def _forward_graph(
        self, model: BuiltModel, embeds: PromptEmbeds, size: int, objective: Objective, draft: bool
    ) -> Prepared:
        latents = model.backbone.initial_latents(range(size))

        def evaluate(noise: Tensor) -> tuple[Tensor, ...]:
            evaluation = objective.evaluate(model.backbone.render(noise, embeds, draft=draft))
            return evaluation.loss, evaluation.margin

        graph = CapturedFunction(evaluate, (latents,), with_gradient=False)
        return lambda: graph.forward(latents)[1].tolist(), ""


def tensors_of(embeds: PromptEmbeds) -> list[Tensor]:
    """Return the tensors that are there."""
    return [tensor for tensor in vars(embeds).values() if tensor is not None]


def optimisation_step(passes: ForwardBackward, latents: Tensor) -> Callable[[], object]:
    """Return one step as `countgen.methods.refinement.refine` makes it: evaluation, gradient, prior, clip, Adam."""
    latents = latents.clone().requires_grad_(True)
    optimizer = OPTIMIZERS["adam"]([latents], 0.08)

    def step() -> None:
        _, evaluation = passes.forward(latents)
        torch.stack([evaluation.loss, evaluation.margin, evaluation.counts[:, 0]]).tolist()
        optimizer.zero_grad()
        (0.01 * latent_prior(latents)).sum().backward()
        assert latents.grad is not None
        latents.grad += passes.backward()
        clip(latents, 10.0)
        optimizer.step()

    return step


def agreement(reference: ForwardBackward, other: ForwardBackward, latents: Tensor) -> str:
    """Return how far two ways of the same passes are apart on the same latents."""
    images, evaluation = reference.forward(latents)
    gradient = reference.backward().flatten()
    other_images, other_evaluation = other.forward(latents)
    other_gradient = other.backward().flatten()
    finite = bool(torch.isfinite(gradient).all() and torch.isfinite(other_gradient).all())
    # Untrained detectors give gradients of 1e-10, and in float32 anything below 1e-8 would be taken for zero.
    cosine = float(cosine_similarity(gradient.double(), other_gradient.double(), dim=0, eps=1e-30))
    difference = float((images - other_images).abs().max())
    loss = float((evaluation.loss - other_evaluation.loss).abs().max())
    return (
        f"against eager: image {difference:.1e}, loss {loss:.1e} of {float(evaluation.loss[0]):.3g}, gradient cosine "
        f"{cosine:.6f}, norm {float(gradient.norm()):.2e}, {'finite' if finite else 'NOT FINITE'}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m countgen.benchmarks.speed", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--models", default=",".join(TIMED), help="of the full-size ones, with commas")
    parser.add_argument("--size", choices=(*SIZES, "miniature"), help="full on a GPU, miniature on a CPU by default")
    parser.add_argument("--repeats", type=int, help="5; pairs of steps of the miniature: 24")
    parser.add_argument("--max-seconds", type=float, default=300, help="start no further variant after this")
    parser.add_argument("--only", action="append", default=[], metavar="PART", help="variants with this in their name")
    parser.add_argument("--out", type=Path, help="JSON, rewritten after every row")
    parser.add_argument("--profile", action="store_true", help="of the miniature: also print where the time goes")
    parser.add_argument(
        "--layouts", action="store_true", help="of the miniature: also time channels_last, torch.compile"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="of the miniature: also time N threads against one")
    options = parser.parse_args(arguments)
    device = device_of(parser, options.device)
    models = models_of(parser, options.models)
    size = options.size or ("full" if device.type == "cuda" else "miniature")
    if size == "miniature" and device.type != "cpu":
        parser.error("the miniature is timed on a CPU; give --device cpu, or another --size")
    if options.repeats is not None and options.repeats < (2 if size == "miniature" else 1):
        parser.error(f"--repeats must be at least 1, of the miniature 2, for quartiles; got {options.repeats}")
    options.repeats = options.repeats or (24 if size == "miniature" else 5)
    bench = ModelBench(device, size, options.repeats, options.out, options.max_seconds, options.only)
    if size == "miniature":
        from countgen.benchmarks.speed.miniature import compare, layouts, profile, threads

        compare(bench, options.repeats)
        if options.threads:
            threads(bench, options.threads, options.repeats)
        if options.layouts:
            layouts(bench, options.repeats)
        if options.profile:
            print(f"\n{profile(device)}")
        return 0
    for name in models:
        bench.model(name)
        forget(device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
