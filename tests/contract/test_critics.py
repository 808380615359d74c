"""What every critic promises, whichever detector is inside; that counts are the stock library's is tested beside it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.ops import nms

from countgen.benchmarks.miniature.world import Scene, load_sprites, render
from countgen.critics import Critic, Evaluation, available
from countgen.critics.candidates import Candidates
from countgen.critics.losses import LOSSES, STEEPNESS
from countgen.miniature.world import OBJECT_NAMES
from tests.contract.conftest import BUILDERS

Critics = Callable[[str], Critic]
Pictures = Callable[..., Tensor]
Networks = Callable[[Critic], nn.ModuleList]


def evaluate(critic: Critic, images: Tensor, target_count: int = 12, loss: str = "margin") -> Evaluation:
    return critic.evaluate(images, {"apple": target_count}, LOSSES[loss])


def every_loss(
    candidates: Candidates, target_count: int, threshold_logit: float, steepness: float = STEEPNESS
) -> Tensor:
    """Return all losses of the same candidates, (losses, B), so that a network runs once for all of them."""
    return torch.stack([loss(candidates, target_count, threshold_logit, steepness) for loss in LOSSES.values()])


def test_the_gradient_of_every_loss_and_of_the_soft_count_equals_finite_differences(
    whole_critic: Critic, pictures: Pictures, networks: Networks
) -> None:
    """In double precision from the pixels on, so that the verdict does not depend on the processor's rounding."""
    critic = copy.deepcopy(whole_critic)
    networks(critic).double()
    generator = torch.Generator().manual_seed(1)
    # Noise, since pixels of one colour tie in maximum pooling, which has no derivative there.
    images = pictures(2).double() + 1e-3 * torch.randn(2, 3, 128, 128, generator=generator, dtype=torch.float64)
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


def test_a_partial_gradient_still_points_downhill(
    partial_critic: Critic, pictures: Pictures, networks: Networks
) -> None:
    critic = copy.deepcopy(partial_critic)
    networks(critic).double()
    images = pictures(8).double().requires_grad_(True)
    before = evaluate(critic, images).loss
    (gradient,) = torch.autograd.grad(before.sum(), images)
    step = 1e-3 * gradient / gradient.flatten(1).norm(dim=1)[:, None, None, None]
    after = evaluate(critic, (images - step).detach()).loss
    assert (after < before).sum() >= 5, (before.tolist(), after.tolist())


def test_counting_first_does_not_break_backward_passes_which_leave_the_weights_bit_identical(
    kind: Critic, pictures: Pictures, networks: Networks
) -> None:
    module = networks(kind)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    images = pictures(2)
    larger = interpolate(images, scale_factor=1.5, mode="bilinear")
    for batch in (images, larger, images):
        with torch.inference_mode():
            kind.counts(larger, ["apple"])
        probe = batch.clone().requires_grad_(True)
        evaluate(kind, probe, 40).loss.sum().backward()
        assert torch.isfinite(probe.grad).all()
        # A trained density map that sees no apple is the exponential of a very low number, and nearly flat.
        assert (probe.grad.flatten(1).abs().amax(1) > 1e-8).all()
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())


def test_a_batch_equals_its_pictures_one_by_one(kind: Critic, pictures: Pictures) -> None:
    images = pictures(6)
    with torch.no_grad():
        together = evaluate(kind, images, 3)
        alone = [evaluate(kind, image[None], 3) for image in images]
    assert together.counts.tolist() == [evaluation.counts[0].tolist() for evaluation in alone]
    for name in ("soft_counts", "loss", "margin"):
        expected = torch.cat([getattr(evaluation, name) for evaluation in alone])
        torch.testing.assert_close(getattr(together, name), expected, rtol=1e-4, atol=1e-4)


def test_unusual_pictures_are_counted_and_differentiated(
    kind: Critic, apples: Pictures, subtests: pytest.Subtests
) -> None:
    unusual = {
        "black": torch.zeros(1, 3, 128, 128),
        # The trained detectors see it smaller than they can count.
        "200 objects": torch.cat([apples((20,)).repeat(1, 1, 1, 5)] * 2, 2),
        "64x64": interpolate(apples((2,)), 64),
        "1024x768": interpolate(apples((5,)), (768, 1024), mode="bilinear"),
    }
    for name, images in unusual.items():
        with subtests.test(name=name):
            probe = images.clone().requires_grad_(True)
            evaluation = evaluate(kind, probe, 400 if name == "200 objects" else 10)
            evaluation.loss.sum().backward()
            assert torch.isfinite(probe.grad).all()
            assert int(evaluation.counts) == int(kind.counts(images, ["apple"]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_images_of_every_float_dtype_and_autocast_give_float32_losses_with_finite_gradient(
    kind: Critic, pictures: Pictures, dtype: torch.dtype
) -> None:
    images = pictures(2)[1:].to(dtype).requires_grad_(True)
    evaluation = evaluate(kind, images, 4)
    evaluation.loss.sum().backward()
    assert (evaluation.loss.dtype, images.grad.dtype) == (torch.float32, dtype)
    assert torch.isfinite(images.grad).all()
    with torch.no_grad():
        expected = evaluate(kind, images.detach().float(), 4)
    torch.testing.assert_close(evaluation.loss.detach(), expected.loss)
    assert torch.equal(kind.counts(images.detach(), ["apple"]), expected.counts)
    if dtype != torch.float64:
        probe = pictures(2)[1:].clone().requires_grad_(True)
        with torch.autocast("cpu", dtype=dtype):
            loss = evaluate(kind, probe, 4, "d2d").loss
        loss.sum().backward()
        assert loss.dtype == torch.float32
        assert torch.isfinite(loss).all()
        assert torch.isfinite(probe.grad).all()


def test_three_hundred_objects_are_counted_where_the_critic_sees_the_picture_at_its_size(
    critics: Critics, apples: Pictures
) -> None:
    yolo = critics("miniature-yolo").at_scale(5)
    tiles = apples((12,) * 25, seed=12)
    crowd = torch.cat([torch.cat(list(row), 2) for row in tiles.split(5)], 1)[None]
    assert abs(yolo.count(crowd, "apple") - 300) <= 3
    with torch.no_grad():
        proposals = yolo.propose(crowd, ["apple"])
        (column,) = proposals.columns
        scores = proposals.logits[0, :, column]
        above = (scores > yolo.threshold_logit) & (proposals.logits[0].argmax(1) == column)
        expected = len(nms(proposals.boxes[0, above], scores[above], yolo.settings.nms_iou))
    assert yolo.count(crowd, "apple") == expected


def test_counts_and_soft_counts_agree_where_the_margin_says_so(trained_critic: Critic, apples: Pictures) -> None:
    counts = (0, 1, 2, 3, 5, 8)
    confirmed = 0
    for image, count in zip(apples(counts), counts, strict=True):
        evaluation = evaluate(trained_critic, image[None], count)
        if evaluation.margin > 1:
            confirmed += 1
            assert int(evaluation.counts) == count
            assert abs(float(evaluation.soft_counts) - count) < 0.5
    assert confirmed >= 2


def test_several_objects_are_counted_in_one_pass(trained_critic: Critic) -> None:
    scenes = [Scene(((OBJECT_NAMES.index("apple"), 3), (OBJECT_NAMES.index("dog"), 2)), place) for place in range(6)]
    images = render(scenes, load_sprites(), torch.Generator().manual_seed(3)).images
    counts = trained_critic.counts(images, ["dogs", "apple"])
    assert (counts == torch.tensor([2, 3])).all(1).sum() >= 5


def test_there_is_a_contract_for_every_critic_there_is(critics: Critics) -> None:
    tested = {type(critics(name)).__module__.rsplit(".", 1)[1] for name in BUILDERS}
    # A vision-language model answers in words: no boxes, no gradient, tests of its own in tests/critics/test_vlm.py.
    assert set(available()) - {"vlm"} <= tested


def test_a_name_that_the_tokenizer_drops_is_an_error(critics: Critics, pictures: Pictures) -> None:
    with pytest.raises(ValueError, match="knows nothing of"):
        critics("grounding-dino").counts(pictures(1), ["\u200b"])
