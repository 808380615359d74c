"""Time one optimisation iteration of full-size models, and what it is made of: `python -m benchmarks.speed`.

On a GPU: SDXL-Turbo, SD-Turbo and PixArt-DMD at 512x512 with random weights, so nothing is downloaded, with a
full-size YOLO as critic. Each time is also given as a ratio to a plain re-implementation of ReNO's loop in the
same run, and to the floor: counted FLOPs over the measured rate of a large matrix product. On a CPU: the
miniature, against the bare torch loop.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.speed_clock import GIB, Measured, count_flops, forget, matmul_rate, measure
from benchmarks.speed_models import MODELS, SIZES, BuiltModel, build, build_critic
from benchmarks.speed_reno import plain_again, reno_step
from countgen.backbones import PromptEmbeds
from countgen.captured import CapturedFunction, root_cause
from countgen.errors import CountGenError
from countgen.iteration import CapturedIteration, EagerIteration, Iteration, Question
from countgen.noise import OPTIMIZERS, NoiseSettings, clip, latent_prior, refine
from countgen.prompts import Target
from countgen.step import Budget
from countgen.verdict import CONFIRMING, PLAIN
from critics.base import Critic

TARGETS = (Target("apple", 5),)
STEPS = 20
LAYOUTS_OF = "sdxl-turbo"
"""The model on which memory layouts are compared."""
VIEWS = {"one view": PLAIN, "three views": CONFIRMING}

Prepared = tuple[Callable[[], object], str]
"""What is timed, and a note for its row."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        milliseconds: of one iteration of the whole batch, median.
        to_reno: how many times as fast per picture as ReNO's loop.
        to_floor: how many times as long as the counted FLOPs would take at the matrix product's rate.
        allocated_gib, reserved_gib: peaks, weights included.
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
        """As a row of a Markdown table."""
        numbers = (self.milliseconds, self.to_reno, self.to_floor, self.allocated_gib, self.reserved_gib)
        cells = ("" if number is None else f"{number:.2f}" for number in numbers)
        return f"| {self.model} | {self.what} | {self.batch_size} | {' | '.join(cells)} | {self.note} |"


HEADER = (
    "| model | what | batch | ms | x faster than ReNO | x floor | allocated GiB | reserved GiB | note |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


class Bench:
    """Runs one variant after the other; one that fails leaves its error in the table and the others run."""

    def __init__(self, device: torch.device, size: str, repeats: int, out: Path | None, max_seconds: float) -> None:
        self.device = device
        self.size = size
        self.repeats = repeats
        self.dtype = torch.float16 if device.type == "cuda" else torch.float32
        self.rows: list[Row] = []
        self.machine: dict[str, object] = {
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        }
        self._out = out
        self._ends = time.perf_counter() + max_seconds
        self._reno: float | None = None
        self._flops: dict[bool, int] = {}
        self._rate = float("nan")
        print(HEADER, flush=True)

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
            model: whose graphs are freed afterwards.
            what: the row's name.
            prepare: builds what is called, and a note for the row.
            batch_size: pictures per call.
            floor: FLOPs of one picture, for the ratio.
        """
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
            model.backbone.captures.clear()
        each = measured.seconds / batch_size
        self.add(
            replace(
                row,
                milliseconds=1e3 * measured.seconds,
                to_reno=self._reno / each if self._reno else None,
                to_floor=each / (floor / self._rate) if floor else None,
                allocated_gib=measured.allocated / GIB or None,
                reserved_gib=measured.reserved / GIB or None,
                note=note,
            )
        )
        return measured

    def model(self, name: str) -> None:
        """Every variant of one model."""
        started = time.perf_counter()
        model = build(name, self.size, self.device, self.dtype)
        critic = build_critic(self.size, self.device)
        with torch.no_grad():
            embeds = model.encode()
        note = f"built in {time.perf_counter() - started:.0f} s"
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors_of(embeds)):
            embeds = embeds.map(lambda tensor: torch.randn_like(tensor) if tensor.is_floating_point() else tensor)
            note += "; the random text encoder overflowed, embeddings are random"
        self._rate = matmul_rate(self.device, self.dtype)
        self.add(Row(name, "matrix product", note=f"{self._rate / 1e12:.1f} TFLOP/s {self.dtype}; {note}"))

        def question(views: str, size: int | None = None) -> Question:
            asked = critic if size is None else build_critic(self.size, self.device, size)
            return Question((asked,), TARGETS, VIEWS[views], "margin")

        self._reno = None
        reno = self.run(model, "ReNO's loop", partial(self._reno_call, model, critic))
        self._reno = reno.seconds if reno else None
        plain_again(model)
        model.free_encoders()
        forget(self.device)
        self._count(model, embeds, question("one view"))
        for draft in (False, True):
            for views in VIEWS:
                what = f"{'tiny' if draft else 'full'} decoder, {views}"
                asked = question(views)
                floor = self._flops.get(draft)
                self.run(model, f"eager, {what}", partial(self._eager, model, embeds, 1, asked, draft), floor=floor)
                self.run(model, f"graph, {what}", partial(self._graph, model, embeds, 1, asked, draft), floor=floor)
        asked = question("one view")
        for size in (4, 8):
            for draft in (False, True):
                what = f"graph, {'tiny' if draft else 'full'} decoder, one view"
                floor = self._flops.get(draft)
                self.run(model, what, partial(self._graph, model, embeds, size, asked, draft), size, floor=floor)
        for size in (1, 4, 8):
            for draft in (False, True):
                what = f"forward only, {'tiny' if draft else 'full'} decoder, one view"
                self.run(model, f"{what}, eager", partial(self._forward, model, embeds, size, asked, draft), size)
                self.run(model, f"{what}, graph", partial(self._drawn, model, embeds, size, asked, draft), size)
        whole = f"refine, {STEPS} steps, full decoder, three views"
        self.run(model, whole, partial(self._refine, model, embeds, critic))
        if name == LAYOUTS_OF:
            self._layouts(model, embeds, asked)
        low = question("one view", 32 if self.size == "tiny" else 512)
        model.backbone.save_memory()
        self.run(model, 'memory="low", one smaller view', partial(self._eager, model, embeds, 1, low, False))

    def _layouts(self, model: BuiltModel, embeds: PromptEmbeds, asked: Question) -> None:
        """The graph with other memory layouts and with cuDNN's own search."""
        if self.device.type != "cuda":
            return
        vae, denoiser = model.backbone.pipeline.vae, model.backbone.denoiser
        for what, modules in (("VAE", [vae]), ("VAE and denoiser", [vae, denoiser])):
            for module in modules:
                module.to(memory_format=torch.channels_last)
            self.run(
                model,
                f"graph, {what} channels_last",
                partial(self._graph, model, embeds, 1, asked, False),
                floor=self._flops.get(False),
            )
        torch.backends.cudnn.benchmark = True
        for draft in (False, True):
            what = f"graph, both channels_last, cuDNN's search, {'tiny' if draft else 'full'} decoder"
            self.run(model, what, partial(self._graph, model, embeds, 1, asked, draft), floor=self._flops.get(draft))
        for module in (vae, denoiser):
            module.to(memory_format=torch.contiguous_format)
        what = "graph, cuDNN's search, full decoder"
        self.run(model, what, partial(self._graph, model, embeds, 1, asked, False), floor=self._flops.get(False))
        torch.backends.cudnn.benchmark = False

    def _refine(self, model: BuiltModel, embeds: PromptEmbeds, critic: Critic) -> Prepared:
        """A whole run of the library, as it runs itself."""
        latents = model.backbone.initial_latents([0])
        settings = NoiseSettings(num_optimization_steps=STEPS)

        def run() -> None:
            for _ in refine(model.backbone, [critic], embeds, TARGETS, latents, [0], Budget(), settings):
                pass

        return run, ""

    def _reno_call(self, model: BuiltModel, critic: Critic) -> Prepared:
        latents = model.backbone.initial_latents([0]).requires_grad_(True)
        asked = Question((critic,), TARGETS, PLAIN, "margin")
        return reno_step(model, latents, lambda images: asked.ask(images).loss), ""

    def _count(self, model: BuiltModel, embeds: PromptEmbeds, asked: Question) -> None:
        self._flops = {}
        for draft in (False, True):
            iteration = EagerIteration(model.backbone, embeds, [0], asked, draft=draft)
            latents = model.backbone.initial_latents([0])

            def once(iteration: Iteration = iteration, latents: Tensor = latents) -> None:
                iteration.look(latents)
                iteration.gradient()

            try:
                self._flops[draft] = count_flops(once)
            except (RuntimeError, AssertionError) as error:
                self.add(Row(model.backbone.name, "counting FLOPs", note=f"failed: {str(error)[:200]}"))
                continue
            floor = 1e3 * self._flops[draft] / self._rate
            note = f"{self._flops[draft] / 1e12:.3f} TFLOP with critic, one view: floor {floor:.1f} ms"
            self.add(Row(model.backbone.name, f"counted, {'tiny' if draft else 'full'} decoder", note=note))

    def _eager(self, model: BuiltModel, embeds: PromptEmbeds, size: int, asked: Question, draft: bool) -> Prepared:
        iteration = EagerIteration(model.backbone, embeds, list(range(size)), asked, draft=draft)
        return optimisation_step(iteration, model.backbone.initial_latents(range(size))), ""

    def _graph(self, model: BuiltModel, embeds: PromptEmbeds, size: int, asked: Question, draft: bool) -> Prepared:
        started = time.perf_counter()
        iteration = CapturedIteration(model.backbone, embeds, size, asked, draft=draft)
        note = f"captured in {time.perf_counter() - started:.1f} s"
        latents = model.backbone.initial_latents(range(size))
        if self.device.type == "cuda":
            note += f", peak {torch.cuda.max_memory_reserved() / GIB:.2f} GiB"
        if size == 1:
            eager = EagerIteration(model.backbone, embeds, [0], asked, draft=draft)
            note += "; " + agreement(eager, iteration, latents)
            del eager
            # What the comparison held is not the graph's.
            forget(self.device)
        return optimisation_step(iteration, latents), note

    def _forward(self, model: BuiltModel, embeds: PromptEmbeds, size: int, asked: Question, draft: bool) -> Prepared:
        latents = model.backbone.initial_latents(range(size))

        @torch.no_grad()
        def draw() -> None:
            asked.ask(model.backbone.render(latents, embeds, draft=draft)).margin.tolist()

        return draw, ""

    def _drawn(self, model: BuiltModel, embeds: PromptEmbeds, size: int, asked: Question, draft: bool) -> Prepared:
        latents = model.backbone.initial_latents(range(size))

        def look(noise: Tensor) -> tuple[Tensor, ...]:
            verdict = asked.ask(model.backbone.render(noise, embeds, draft=draft))
            return verdict.loss, verdict.margin

        graph = CapturedFunction(look, (latents,), with_gradient=False)
        return lambda: graph.forward(latents)[1].tolist(), ""


def tensors_of(embeds: PromptEmbeds) -> list[Tensor]:
    """Those that are there."""
    return [tensor for tensor in vars(embeds).values() if tensor is not None]


def optimisation_step(iteration: Iteration, latents: Tensor) -> Callable[[], object]:
    """One step as `countgen.noise.refine` makes it: look, read the verdict, gradient, prior, clip, Adam."""
    latents = latents.clone().requires_grad_(True)
    optimizer = OPTIMIZERS["adam"]([latents], 0.08)

    def step() -> None:
        _, verdict = iteration.look(latents)
        torch.stack([verdict.loss, verdict.margin, verdict.counts[:, 0]]).tolist()
        optimizer.zero_grad()
        (0.01 * latent_prior(latents)).sum().backward()
        assert latents.grad is not None
        latents.grad += iteration.gradient()
        clip(latents, 10.0)
        optimizer.step()

    return step


def agreement(eager: Iteration, other: Iteration, latents: Tensor) -> str:
    """How far two iterations are apart on the same latents."""
    images, verdict = eager.look(latents)
    gradient = eager.gradient().flatten()
    other_images, other_verdict = other.look(latents)
    other_gradient = other.gradient().flatten()
    finite = bool(torch.isfinite(gradient).all() and torch.isfinite(other_gradient).all())
    cosine = float(torch.nn.functional.cosine_similarity(gradient, other_gradient, dim=0))
    picture = float((images - other_images).abs().max())
    loss = float((verdict.loss - other_verdict.loss).abs().max())
    return (
        f"against eager: picture {picture:.1e}, loss {loss:.1e} of {float(verdict.loss[0]):.3g}, gradient cosine "
        f"{cosine:.6f}, norm {float(gradient.norm()):.2e}, {'finite' if finite else 'NOT FINITE'}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--models", default=",".join(MODELS), help="of the full-size ones, with commas")
    parser.add_argument("--size", choices=(*SIZES, "miniature"), help="full on a GPU, miniature on a CPU by default")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--max-seconds", type=float, default=300, help="start no further variant after this")
    parser.add_argument("--out", type=Path, help="JSON, rewritten after every row")
    parser.add_argument("--memory", action="store_true", help="print what an iteration needs, and time nothing")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    size = options.size or ("full" if device.type == "cuda" else "miniature")
    if options.memory:
        from benchmarks.speed_memory import print_table

        print_table(options.models.split(","), "full" if size == "miniature" else size, device)
        return 0
    bench = Bench(device, size, options.repeats, options.out, options.max_seconds)
    if size == "miniature":
        from benchmarks.speed_miniature import compare

        compare(bench)
        return 0
    for name in options.models.split(","):
        bench.model(name)
        forget(device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
