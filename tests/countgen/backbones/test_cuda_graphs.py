"""CUDA graphs give what eager passes give, and whatever cannot be captured runs eagerly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from countgen import Models, backbones
from countgen.backbones import Backbone, PromptEmbeds
from countgen.backbones.cuda_graphs import CUDAGraphs
from countgen.backbones.stable_diffusion_xl import StableDiffusionXL
from countgen.critics import Critic
from countgen.methods.forward_backward import ForwardBackward
from countgen.methods.objective import CONFIRMATION_VIEWS, Objective
from countgen.models import load_critic
from countgen.prompts import Target

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="a CUDA graph needs a GPU")


def embeds_of(backbone: Backbone) -> PromptEmbeds:
    with torch.no_grad():
        return backbone.encode_prompt("five apples")


def objective(*critics: Critic) -> Objective:
    return Objective(critics, (Target("apple", 5),), CONFIRMATION_VIEWS, "margin")


@needs_cuda
@pytest.mark.parametrize("name", ["miniature", "miniature-pixart"])
def test_captured_passes_equal_eager_passes(name: str, caplog: pytest.LogCaptureFixture) -> None:
    backbone = backbones.load(name, device="cuda", dtype=torch.float16)
    counted, embeds = objective(load_critic("miniature-yolo", "cuda")), embeds_of(backbone)
    graphs = CUDAGraphs()
    for seeds in ([1, 2], [3, 4]):
        latents = backbone.initial_latents(seeds)
        captured = ForwardBackward(backbone, embeds, seeds, counted, graphs)
        eager = ForwardBackward(backbone, embeds, seeds, counted)
        images, evaluation = captured.forward(latents)
        expected_images, expected = eager.forward(latents)
        torch.testing.assert_close(images, expected_images, atol=5e-3, rtol=0)
        torch.testing.assert_close(evaluation.loss, expected.loss, atol=5e-3, rtol=5e-3)
        gradient = eager.backward()
        assert (captured.backward() - gradient).norm() / gradient.norm() < 2e-2
    assert not caplog.messages  # both were captured


@needs_cuda
def test_a_failed_capture_restores_the_callers_stream_and_leaves_the_function() -> None:
    before = torch.cuda.current_stream()
    x = torch.linspace(-1, 1, 3, device="cuda").requires_grad_(True)

    def function(x: Tensor) -> tuple[Tensor, ...]:
        return (x * 2 * x.new_tensor([1, 2, 3]),)  # copied from the CPU

    assert CUDAGraphs().capture("product", 0, function, (x,)) is function
    assert torch.cuda.current_stream() == before
    torch.testing.assert_close(torch.randn(3, device="cuda") * 0 + x, x)


def test_a_cpu_runs_without_cuda_graphs_and_logs_it(models: Models, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "countgen.methods.forward_backward")
    ForwardBackward(models.backbone, embeds_of(models.backbone), [0], objective(*models.critics), CUDAGraphs())
    assert caplog.messages == ["miniature runs without CUDA graphs: the device is cpu"]


class Capturable(StableDiffusionXL):
    """A backbone that reports no obstacle to a CUDA graph."""

    def cuda_graph_obstacle(self) -> str | None:
        return None


@pytest.mark.skipif(torch.cuda.is_available(), reason="captures succeed on a GPU")
def test_passes_run_eagerly_after_a_failed_capture_which_is_not_tried_again(
    models: Models, caplog: pytest.LogCaptureFixture
) -> None:
    backbone = Capturable(models.backbone.pipeline, models.backbone.preset, "capturable")
    counted, embeds, graphs = objective(*models.critics), embeds_of(backbone), CUDAGraphs()
    latents = backbone.initial_latents([1, 2])
    expected = ForwardBackward(backbone, embeds, [1, 2], counted)
    images, _ = expected.forward(latents)
    gradient = expected.backward()
    for _ in range(2):
        passes = ForwardBackward(backbone, embeds, [1, 2], counted, graphs)
        torch.testing.assert_close(passes.forward(latents)[0], images)
        torch.testing.assert_close(passes.backward(), gradient)
    assert ["without CUDA graphs: the capture failed" in message for message in caplog.messages] == [True, True]
    assert {message.split()[0] for message in caplog.messages} == {"rendering", "evaluation"}


def test_critics_give_the_same_loss_and_gradient_one_image_at_a_time() -> None:
    backbone = backbones.load("miniature")
    counted, embeds = objective(load_critic("miniature-yolo")), embeds_of(backbone)
    latents = backbone.initial_latents([1, 2, 3])
    results = []
    for memory in ("fast", "low"):
        backbone.memory = memory  # of the critics alone: nothing else is saved
        passes = ForwardBackward(backbone, embeds, [1, 2, 3], counted)
        _, evaluation = passes.forward(latents)
        results.append((vars(evaluation), passes.backward()))
    (together, gradient), (one_by_one, gradient_one_by_one) = results
    torch.testing.assert_close(one_by_one, together, atol=1e-3, rtol=1e-3)
    # Single precision: convolutions of a batch and of one image round differently on every processor.
    assert (gradient_one_by_one - gradient).norm() < 1e-2 * gradient.norm()
