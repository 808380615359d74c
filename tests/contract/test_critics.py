"""What every critic promises, whichever detector is inside; that counts are the stock library's is tested beside it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from countgen.critics import Candidates, Evaluation, available
from countgen.critics.losses import LOSSES, STEEPNESS
from tests.contract.pictures import networks_in, only_apples, rendered
from tests.contract.tiny_detectors import BUILDERS, ONE_OF_A_KIND, PARTIAL, tiny

CORE = ("miniature-heatmap", "miniature-density", "retinanet")
"""Critics whose gradient is tested in the core minute: small, and without Ultralytics."""
WHOLE = [name for name in BUILDERS if name not in (*PARTIAL, "dynamic-scale")]
each_kind = pytest.mark.parametrize("name", ONE_OF_A_KIND)


def evaluate(name: str, images: Tensor, target_count: int = 12, loss: str = "margin") -> Evaluation:
    return tiny(name).evaluate(images, {"apple": target_count}, LOSSES[loss])


def every_loss(
    candidates: Candidates, target_count: int, threshold_logit: float, steepness: float = STEEPNESS
) -> Tensor:
    """Return all losses of the same candidates, (losses, B), so that a network runs once for all of them."""
    return torch.stack([loss(candidates, target_count, threshold_logit, steepness) for loss in LOSSES.values()])


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.core] * (name in CORE)) for name in WHOLE])
def test_the_gradient_of_every_loss_and_of_the_soft_count_equals_finite_differences(name: str) -> None:
    """In double precision from the pixels on, so that the verdict does not depend on the processor's rounding."""
    critic = copy.deepcopy(tiny(name))
    networks_in(critic).double()
    generator = torch.Generator().manual_seed(1)
    # Noise, since pixels of one colour tie in maximum pooling, which has no derivative there.
    images = rendered(2).double() + 1e-3 * torch.randn(2, 3, 128, 128, generator=generator, dtype=torch.float64)
    along = torch.randn(images.shape, generator=generator, dtype=torch.float64)

    def values(images: Tensor) -> Tensor:
        """Losses and soft count, (losses + 1, B); what counts without detecting has one loss."""
        evaluation = critic.evaluate(images, {"apple": 12}, every_loss)
        return torch.cat([evaluation.loss.view(-1, len(images)), evaluation.soft_counts.T])

    probe = images.clone().requires_grad_(True)
    at_images = values(probe)
    assert at_images.dtype == torch.float64
    gradients = [torch.autograd.grad(value.sum(), probe, retain_graph=True)[0] for value in at_images]
    slopes = torch.stack([(gradient * along).flatten(1).sum(1) for gradient in gradients])
    errors = []
    for length in (1e-8, 1e-9):
        with torch.no_grad():
            ahead, behind = (values(images + sign * length * along) for sign in (1, -1))
        errors.append(((ahead - behind) / (2 * length) - slopes).abs().amax(1) / slopes.abs().amax(1))
    assert (torch.stack(errors).amin(0) <= 1e-3).all(), (list(LOSSES), slopes.tolist(), errors)


@pytest.mark.parametrize("name", PARTIAL)
def test_a_partial_gradient_still_points_downhill(name: str) -> None:
    critic = copy.deepcopy(tiny(name))
    networks_in(critic).double()
    images = rendered(8).double().requires_grad_(True)
    before = critic.evaluate(images, {"apple": 12}, LOSSES["margin"]).loss
    (gradient,) = torch.autograd.grad(before.sum(), images)
    step = 1e-3 * gradient / gradient.flatten(1).norm(dim=1)[:, None, None, None]
    after = critic.evaluate((images - step).detach(), {"apple": 12}, LOSSES["margin"]).loss
    assert (after < before).sum() >= 5, (before.tolist(), after.tolist())


@each_kind
def test_counting_first_does_not_break_backward_passes_which_leave_the_weights_bit_identical(name: str) -> None:
    module = networks_in(tiny(name))
    before = {key: value.clone() for key, value in module.state_dict().items()}
    images = rendered(2)
    larger = interpolate(images, scale_factor=1.5, mode="bilinear")
    for batch in (images, larger, images):
        with torch.inference_mode():
            tiny(name).counts(larger, ["apple"])
        probe = batch.clone().requires_grad_(True)
        evaluate(name, probe, 40).loss.sum().backward()
        assert torch.isfinite(probe.grad).all()
        # A trained density map that sees no apple is the exponential of a very low number, and nearly flat.
        assert (probe.grad.flatten(1).abs().amax(1) > 1e-8).all()
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())


@each_kind
def test_a_batch_equals_its_pictures_one_by_one(name: str) -> None:
    images = rendered(6)
    with torch.no_grad():
        together = evaluate(name, images, 3)
        alone = [evaluate(name, image[None], 3) for image in images]
    assert together.counts.tolist() == [evaluation.counts[0].tolist() for evaluation in alone]
    for field in ("soft_counts", "loss", "margin"):
        expected = torch.cat([getattr(evaluation, field) for evaluation in alone])
        torch.testing.assert_close(getattr(together, field), expected, rtol=1e-4, atol=1e-4)


@each_kind
def test_unusual_pictures_are_counted_and_differentiated(name: str, subtests: pytest.Subtests) -> None:
    unusual = {
        "black": torch.zeros(1, 3, 128, 128),
        # The trained detectors see it smaller than they can count.
        "200 objects": torch.cat([only_apples((20,)).repeat(1, 1, 1, 5)] * 2, 2),
        "64x64": interpolate(only_apples((2,)), 64),
        "1024x768": interpolate(only_apples((5,)), (768, 1024), mode="bilinear"),
    }
    for kind, images in unusual.items():
        with subtests.test(kind=kind):
            probe = images.clone().requires_grad_(True)
            evaluation = evaluate(name, probe, 400 if kind == "200 objects" else 10)
            evaluation.loss.sum().backward()
            assert torch.isfinite(probe.grad).all()
            assert int(evaluation.counts) == int(tiny(name).counts(images, ["apple"]))


@each_kind
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_images_of_every_float_dtype_and_autocast_give_float32_losses_with_finite_gradient(
    name: str, dtype: torch.dtype
) -> None:
    images = rendered(2)[1:].to(dtype).requires_grad_(True)
    evaluation = evaluate(name, images, 4)
    evaluation.loss.sum().backward()
    assert (evaluation.loss.dtype, images.grad.dtype) == (torch.float32, dtype)
    assert torch.isfinite(images.grad).all()
    with torch.no_grad():
        expected = evaluate(name, images.detach().float(), 4)
    torch.testing.assert_close(evaluation.loss.detach(), expected.loss)
    assert torch.equal(tiny(name).counts(images.detach(), ["apple"]), expected.counts)
    if dtype != torch.float64:
        probe = rendered(2)[1:].clone().requires_grad_(True)
        with torch.autocast("cpu", dtype=dtype):
            loss = evaluate(name, probe, 4, "d2d").loss
        loss.sum().backward()
        assert loss.dtype == torch.float32
        assert torch.isfinite(loss).all()
        assert torch.isfinite(probe.grad).all()


def test_there_is_a_contract_for_every_critic_there_is() -> None:
    tested = {type(tiny(name)).kind() for name in BUILDERS}
    # A vision-language model answers in words: no boxes, no gradient, tests of its own in tests/critics/test_vlm.py.
    assert set(available()) - {"vlm"} <= tested


def test_a_name_that_the_tokenizer_drops_is_an_error() -> None:
    with pytest.raises(ValueError, match="knows nothing of"):
        tiny("grounding-dino").counts(rendered(1), ["\u200b"])
