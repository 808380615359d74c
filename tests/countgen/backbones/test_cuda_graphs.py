import copy
import importlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from diffusers import AutoencoderTiny
from torch import Tensor

from countgen import Models
from countgen.backbones import Preset
from countgen.backbones.cuda_graphs import CapturedFunction, CUDAGraphs, NotCapturedError
from countgen.backbones.stable_diffusion_xl import StableDiffusionXL
from countgen.methods.execution_cache import ExecutionCache
from countgen.methods.forward_backward import (
    EagerEvaluator,
    EagerRenderer,
    GraphEvaluator,
    GraphRenderer,
    captured,
    eager,
    prepare,
)
from countgen.methods.objective import CONFIRMATION_VIEWS, Objective
from countgen.models import load_critic
from countgen.prompts import Target

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="a CUDA graph needs a GPU")
TARGETS = (Target("apple", 5),)


@needs_cuda
@pytest.mark.parametrize("name", ["stable_diffusion_xl", "stable_diffusion", "pixart one step"])
@pytest.mark.parametrize("draft", [False, True])
def test_captured_passes_equal_eager_passes(name: str, draft: bool, tiny_pipeline: Callable[[str], Any]) -> None:
    pipeline = copy.deepcopy(tiny_pipeline(name)).to("cuda", torch.float16)
    widths, blocks = (8, 8), (1, 1)
    tiny_vae = AutoencoderTiny(
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        num_encoder_blocks=blocks,
        num_decoder_blocks=blocks,
    ).to("cuda", torch.float16)
    family = importlib.import_module(f"countgen.backbones.{name.split()[0]}")
    backbone = family.BACKBONE(pipeline, Preset("tiny", 1, 0.0, 64, 64, "none"), name, tiny_vae)
    with torch.no_grad():
        embeds = backbone.encode_prompt("five apples")
    objective = Objective((load_critic("miniature-yolo", "cuda"),), TARGETS, CONFIRMATION_VIEWS, "margin")
    graph_passes = captured(backbone, embeds, 2, objective, CUDAGraphs(), draft=draft)
    for seeds in ([1, 2], [3, 4]):
        latents = backbone.initial_latents(seeds)
        eager_passes = eager(backbone, embeds, seeds, objective, draft=draft)
        images, evaluation = graph_passes.forward(latents)
        expected_images, expected = eager_passes.forward(latents)
        torch.testing.assert_close(images, expected_images, atol=5e-3, rtol=0)
        torch.testing.assert_close(evaluation.loss, expected.loss, atol=5e-3, rtol=5e-3)
        apart = (graph_passes.backward() - (gradient := eager_passes.backward())).norm() / gradient.norm()
        assert apart < 2e-2


@needs_cuda
def test_backward_of_a_captured_function_uses_the_last_replay() -> None:
    graph = CapturedFunction(
        lambda x: (x.sin() * x,), (torch.zeros(4, device="cuda", requires_grad=True),), with_gradient=True
    )
    x = torch.linspace(-1, 1, 4, device="cuda")
    (y,) = graph.forward(x)
    (gradient,) = graph.backward(torch.full((4,), 2.0, device="cuda"))
    torch.testing.assert_close(y, x.sin() * x)
    torch.testing.assert_close(gradient, 2 * (x.cos() * x + x.sin()))


@needs_cuda
def test_a_capture_that_copies_from_the_cpu_fails_and_restores_the_callers_stream() -> None:
    before = torch.cuda.current_stream()
    x = torch.linspace(-1, 1, 3, device="cuda")
    with pytest.raises(RuntimeError):
        CapturedFunction(lambda x: (x * 2 * x.new_tensor([1, 2, 3]),), (x,), with_gradient=False)
    assert torch.cuda.current_stream() == before
    torch.testing.assert_close(torch.randn(3, device="cuda") * 0 + x, x)


def test_a_cpu_runs_without_cuda_graphs_and_logs_it(models: Models, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "countgen.methods.forward_backward")
    backbone = models.backbone
    with torch.no_grad():
        embeds = backbone.encode_prompt("five apples")
    objective = Objective(models.critics, TARGETS, CONFIRMATION_VIEWS, "margin")
    assert isinstance(prepare(backbone, embeds, [0], objective, ExecutionCache()).renderer, EagerRenderer)
    assert caplog.messages == ["miniature runs without CUDA graphs: the device is cpu"]


class Capturable(StableDiffusionXL):
    """A backbone that reports no obstacle to a CUDA graph."""

    def cuda_graph_obstacle(self) -> str | None:
        return None


class EagerGraph(CapturedFunction):
    """A pair of graphs that computes eagerly: inputs are copied in, and outputs are overwritten at each call."""

    def __init__(
        self, function: Callable[..., tuple[Tensor, ...]], inputs: Sequence[Tensor], *, with_gradient: bool
    ) -> None:
        self._function = function
        self._static = [tensor.detach().clone().requires_grad_(tensor.requires_grad) for tensor in inputs]
        self.outputs = tuple(tensor.detach() for tensor in function(*self._static))
        self._moved = [tensor for tensor in self._static if tensor.requires_grad]
        self._gradient = [torch.zeros_like(tensor) for tensor in self._moved]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        for static, given in zip(self._static, inputs, strict=True):
            static.detach().copy_(given.detach())
        with torch.enable_grad():
            results = self._function(*self._static)
        self._live = [tensor for tensor in results if tensor.requires_grad]
        for output, result in zip(self.outputs, results, strict=True):
            output.copy_(result.detach())
        return self.outputs

    def backward(self, *gradients: Tensor) -> tuple[Tensor, ...]:
        given = gradients or [torch.ones_like(tensor) for tensor in self._live]
        for gradient, found in zip(self._gradient, torch.autograd.grad(self._live, self._moved, given), strict=True):
            gradient.copy_(found)
        return tuple(self._gradient)


class RendererOnlyGraph(EagerGraph):
    """A graph whose capture fails for critics, that is, for inputs that are images."""

    error: Exception = RuntimeError("operation not permitted when stream is capturing")

    def __init__(
        self, function: Callable[..., tuple[Tensor, ...]], inputs: Sequence[Tensor], *, with_gradient: bool
    ) -> None:
        if inputs[0].shape[1] == 3:
            raise self.error
        super().__init__(function, inputs, with_gradient=with_gradient)


@pytest.fixture
def capturable(models: Models) -> Capturable:
    stock = models.backbone
    return Capturable(stock.pipeline, stock.preset, "capturable")


@pytest.mark.parametrize(
    ("graphs", "evaluator"),
    [(EagerGraph, GraphEvaluator), (RendererOnlyGraph, EagerEvaluator)],
    ids=["both", "renderer"],
)
def test_passes_with_one_or_two_graphs_equal_eager_passes(
    graphs: type[EagerGraph],
    evaluator: type,
    capturable: Capturable,
    models: Models,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("countgen.methods.forward_backward.CapturedFunction", graphs)
    with torch.no_grad():
        embeds = capturable.encode_prompt("five apples")
    objective = Objective(models.critics, TARGETS, CONFIRMATION_VIEWS, "margin")
    passes = prepare(capturable, embeds, [1, 2], objective, ExecutionCache())
    assert isinstance(passes.renderer, GraphRenderer)
    assert isinstance(passes.evaluator, evaluator)
    assert ["operation not permitted" in message for message in caplog.messages] == [True] * (
        evaluator is EagerEvaluator
    )
    eager_passes = eager(capturable, embeds, [1, 2], objective)
    kept = []
    for seeds in ([1, 2], [3, 4]):
        latents = capturable.initial_latents(seeds)
        images, evaluation = passes.forward(latents)
        expected_images, expected = eager_passes.forward(latents)
        torch.testing.assert_close(images, expected_images)
        torch.testing.assert_close(vars(evaluation), vars(expected))
        torch.testing.assert_close(passes.backward(), eager_passes.backward())
        kept.append((images, evaluation.loss))
    # Later calls do not overwrite tensors that were returned earlier.
    images, loss = kept[0]
    torch.testing.assert_close(images, eager_passes.forward(capturable.initial_latents([1, 2]))[0])
    assert not torch.equal(loss, kept[1][1])


def test_a_capture_that_fails_leaves_no_graph_and_is_not_tried_again(capturable: Capturable, models: Models) -> None:
    with torch.no_grad():
        embeds = capturable.encode_prompt("five apples")
    objective = Objective(models.critics, TARGETS, CONFIRMATION_VIEWS, "margin")
    half = object()
    cache = ExecutionCache()
    cache.graphs.get("evaluate", "an earlier batch", lambda: half)  # type: ignore[arg-type, return-value]
    assert cache.graphs

    assert isinstance(prepare(capturable, embeds, [0], objective, cache).renderer, EagerRenderer)

    assert not cache.graphs
    with pytest.raises(NotCapturedError, match="needs its inputs on a GPU"):
        cache.graphs.get("render", "another batch", lambda: half)  # type: ignore[arg-type, return-value]


def test_a_capture_that_runs_out_of_memory_is_still_tried_for_a_smaller_batch() -> None:
    captures = CUDAGraphs()
    tried = []

    def capture(size: int) -> object:
        tried.append(size)
        if size > 2:
            try:
                raise torch.OutOfMemoryError("CUDA out of memory")
            finally:
                raise RuntimeError("the capture was invalidated")
        return object()

    for size in (8, 8, 2):
        get = partial(captures.get, "render", size, lambda size=size: capture(size))  # type: ignore[arg-type, misc]
        if size > 2:
            with pytest.raises(NotCapturedError, match="CUDA out of memory"):
                get()
        else:
            get()
    assert tried == [8, 2]


@pytest.mark.parametrize("name", ["miniature-yolo", "miniature-heatmap"])
def test_critics_give_the_same_loss_and_gradient_one_image_at_a_time(name: str, models: Models) -> None:
    objective = Objective((load_critic(name),), TARGETS, CONFIRMATION_VIEWS, "margin")
    with torch.no_grad():
        embeds = models.backbone.encode_prompt("five apples")
        images = models.backbone.render(models.backbone.initial_latents([1, 2, 3]), embeds)
    together, one_by_one = EagerEvaluator(objective), EagerEvaluator(objective, one_by_one=True)
    torch.testing.assert_close(vars(one_by_one.forward(images)), vars(together.forward(images)), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(one_by_one.backward(), together.backward(), atol=1e-5, rtol=1e-3)


def test_only_the_latest_graph_of_each_kind_is_kept() -> None:
    captures = CUDAGraphs()
    made = []

    def get(kind: str, key: int) -> object:
        return captures.get(kind, key, lambda: made.append((kind, key)) or object())  # type: ignore[arg-type, return-value, func-returns-value]

    first = get("render", 1)
    assert get("render", 1) is first
    get("evaluate", 1)
    assert get("render", 2) is not first
    assert made == [("render", 1), ("evaluate", 1), ("render", 2)]
