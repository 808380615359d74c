import pytest
import torch

from benchmarks.speed_models import build
from countgen import Models
from countgen.backbones.stable_diffusion_xl import StableDiffusionXL
from countgen.captured import CapturedFunction, Captures
from countgen.iteration import CapturedIteration, EagerIteration, Question, prepare
from countgen.models import load_critic
from countgen.prompts import Target
from countgen.verdict import CONFIRMING

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="a CUDA graph needs a GPU")
TARGETS = (Target("apple", 5),)


@needs_cuda
@pytest.mark.parametrize("name", ["sdxl-turbo", "sd-turbo", "pixart-dmd"])
@pytest.mark.parametrize("draft", [False, True])
def test_a_captured_iteration_equals_the_eager_one(name: str, draft: bool) -> None:
    device = torch.device("cuda")
    model = build(name, "tiny", device, torch.float16)
    with torch.no_grad():
        embeds = model.encode()
    question = Question((load_critic("miniature-yolo", device),), TARGETS, CONFIRMING, "margin")
    captured = CapturedIteration(model.backbone, embeds, 2, question, draft=draft)
    for seeds in ([1, 2], [3, 4]):
        latents = model.backbone.initial_latents(seeds)
        eager = EagerIteration(model.backbone, embeds, seeds, question, draft=draft)
        images, verdict = captured.look(latents)
        expected_images, expected = eager.look(latents)
        torch.testing.assert_close(images, expected_images, atol=5e-3, rtol=0)
        torch.testing.assert_close(verdict.loss, expected.loss, atol=5e-3, rtol=5e-3)
        apart = (captured.gradient() - (gradient := eager.gradient())).norm() / gradient.norm()
        assert apart < 2e-2


@needs_cuda
def test_a_captured_function_keeps_what_its_backward_needs_between_replays() -> None:
    graph = CapturedFunction(
        lambda x: (x.sin() * x,), (torch.zeros(4, device="cuda", requires_grad=True),), with_gradient=True
    )
    x = torch.linspace(-1, 1, 4, device="cuda")
    (y,) = graph.forward(x)
    (gradient,) = graph.backward(torch.full((4,), 2.0, device="cuda"))
    torch.testing.assert_close(y, x.sin() * x)
    torch.testing.assert_close(gradient, 2 * (x.cos() * x + x.sin()))


@needs_cuda
def test_a_function_that_copies_from_the_cpu_is_refused_and_leaves_the_callers_stream() -> None:
    before = torch.cuda.current_stream()
    x = torch.linspace(-1, 1, 3, device="cuda")
    with pytest.raises(RuntimeError):
        CapturedFunction(lambda x: (x * 2 * x.new_tensor([1, 2, 3]),), (x,), with_gradient=False)
    assert torch.cuda.current_stream() == before
    torch.testing.assert_close(torch.randn(3, device="cuda") * 0 + x, x)


def test_a_cpu_runs_eagerly_and_says_so(models: Models, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "countgen.iteration")
    backbone = models.backbone
    with torch.no_grad():
        embeds = backbone.encode_prompt("five apples")
    question = Question(models.critics, TARGETS, CONFIRMING, "margin")
    assert isinstance(prepare(backbone, embeds, [0], question), EagerIteration)
    assert caplog.messages == ["miniature runs without CUDA graphs: the device is cpu"]


class Willing(StableDiffusionXL):
    """Says that its iterations can be captured."""

    def not_captured_because(self) -> str | None:
        return self.captures.refused


def test_a_capture_that_fails_leaves_no_graph_and_is_not_tried_again(models: Models) -> None:
    stock = models.backbone
    backbone = Willing(stock.pipeline, stock.preset, "willing")
    with torch.no_grad():
        embeds = backbone.encode_prompt("five apples")
    question = Question(models.critics, TARGETS, CONFIRMING, "margin")
    half = object()
    backbone.captures.get("render", "an earlier batch", lambda: half)  # type: ignore[arg-type, return-value]

    assert isinstance(prepare(backbone, embeds, [0], question), EagerIteration)

    assert backbone.captures.refused is not None
    assert "needs its inputs on a GPU" in backbone.captures.refused
    anew = backbone.captures.get("render", "an earlier batch", lambda: object())  # type: ignore[arg-type, return-value]
    assert anew is not half


def test_one_graph_of_each_kind_is_kept() -> None:
    captures = Captures()
    made = []

    def get(kind: str, key: int) -> object:
        return captures.get(kind, key, lambda: made.append((kind, key)) or object())  # type: ignore[arg-type, return-value, func-returns-value]

    first = get("render", 1)
    assert get("render", 1) is first
    get("verdict", 1)
    assert get("render", 2) is not first
    assert made == [("render", 1), ("verdict", 1), ("render", 2)]
