"""What every critic promises, whichever detector is inside."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import nms

from countgen.benchmarks.miniature.world import Scene, load_sprites, render
from countgen.critics import Critic, available
from countgen.critics.candidates import Candidates
from countgen.critics.losses import LOSSES, STEEPNESS
from countgen.miniature.world import OBJECT_NAMES
from tests.contract.conftest import BUILDERS

Critics = Callable[[str], Critic]
Pictures = Callable[..., Tensor]


def loss_of(critic: Critic, images: Tensor, target_count: int = 12) -> Tensor:
    return critic.evaluate(images, {"apple": target_count}, LOSSES["margin"]).loss


def soft_count_of(critic: Critic, images: Tensor) -> Tensor:
    return critic.evaluate(images, {"apple": 3}, LOSSES["l1"]).soft_counts[:, 0]


def in_double(critic: Critic, networks: Callable[[Critic], nn.ModuleList]) -> Critic:
    twin = copy.deepcopy(critic)
    networks(twin).double()
    return twin


def test_every_picture_gets_a_finite_gradient_that_is_not_zero(critic: Critic, pictures: Pictures) -> None:
    images = pictures(20).clone().requires_grad_(True)
    loss_of(critic, images, target_count=40).sum().backward()
    assert torch.isfinite(images.grad).all()
    # A trained density map that sees no apple is the exponential of a very low number, and nearly flat.
    assert (images.grad.flatten(1).abs().amax(1) > 1e-8).all()


def every_loss(
    candidates: Candidates, target_count: int, threshold_logit: float, steepness: float = STEEPNESS
) -> Tensor:
    """Return all losses of the same candidates, (losses, B), so that a network runs once for all of them."""
    return torch.stack([loss(candidates, target_count, threshold_logit, steepness) for loss in LOSSES.values()])


@pytest.mark.slow
def test_the_gradient_of_every_loss_equals_finite_differences(
    whole_critic: Critic, pictures: Pictures, networks: Callable[[Critic], nn.ModuleList]
) -> None:
    critic = in_double(whole_critic, networks)
    images = pictures(4).double()
    generator = torch.Generator().manual_seed(1)
    along = torch.randn(images.shape, generator=generator, dtype=torch.float64)
    if critic.family == "nanodet":
        # Its maximum pooling follows the first convolution: in an area of one colour neighbours tie, and a maximum
        # has no derivative there.
        images += 1e-3 * torch.randn(images.shape, generator=generator, dtype=torch.float64)

    def losses(images: Tensor) -> Tensor:
        """(losses, B); what counts without detecting has one loss."""
        return critic.evaluate(images, {"apple": 12}, every_loss).loss.view(-1, len(images))

    probe = images.clone().requires_grad_(True)
    found = losses(probe)
    gradients = [torch.autograd.grad(loss.sum(), probe, retain_graph=True)[0] for loss in found]
    slopes = torch.stack([(gradient * along).flatten(1).sum(1) for gradient in gradients])
    # Some compute in single precision whatever they are given, and need a longer step, which may cross a kink.
    single = found.dtype == torch.float32 or hasattr(critic, "image_processor")
    lengths, tolerance = ((1e-3, 1e-5, 1e-6), 5e-2) if single else ((1e-8, 1e-9), 1e-3)
    errors = []
    for length in lengths:
        with torch.no_grad():
            ahead, behind = (losses(images + sign * length * along) for sign in (1, -1))
        errors.append(((ahead - behind) / (2 * length) - slopes).abs().amax(1) / slopes.abs().amax(1))
    best = torch.stack(errors).amin(0)
    assert (best <= tolerance).all(), (list(LOSSES), slopes.tolist(), errors)


def test_a_partial_gradient_still_points_downhill(partial_critic: Critic, pictures: Pictures) -> None:
    images = pictures(8).clone().requires_grad_(True)
    before = loss_of(partial_critic, images)
    (gradient,) = torch.autograd.grad(before.sum(), images)
    step = 1e-3 * gradient / gradient.flatten(1).norm(dim=1)[:, None, None, None]
    after = loss_of(partial_critic, (images - step).detach())
    assert (after < before).sum() >= 5, (before.tolist(), after.tolist())


@pytest.mark.slow
def test_counting_first_does_not_break_the_next_backward(critic: Critic, pictures: Pictures) -> None:
    images = pictures(2)
    larger = nn.functional.interpolate(images, scale_factor=1.5, mode="bilinear")
    with torch.inference_mode():
        critic.counts(images, ["apple"])
    for batch in (images, larger, images):
        with torch.inference_mode():
            critic.counts(larger, ["apple"])
        probe = batch.clone().requires_grad_(True)
        loss_of(critic, probe).sum().backward()
        assert torch.isfinite(probe.grad).all()


@pytest.mark.slow
def test_backward_passes_leave_the_weights_bit_identical(
    critic: Critic, pictures: Pictures, networks: Callable[[Critic], nn.ModuleList]
) -> None:
    module = networks(critic)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    for _ in range(3):
        images = pictures(2).clone().requires_grad_(True)
        loss_of(critic, images).sum().backward()
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert not any(part.training for part in module)


def test_a_batch_equals_its_pictures_one_by_one(critic: Critic, pictures: Pictures) -> None:
    images = pictures(6)
    with torch.no_grad():
        together = critic.evaluate(images, {"apple": 3}, LOSSES["margin"])
        alone = [critic.evaluate(image[None], {"apple": 3}, LOSSES["margin"]) for image in images]
    assert together.counts.tolist() == [one.counts[0].tolist() for one in alone]
    for name in ("soft_counts", "loss", "margin"):
        torch.testing.assert_close(
            getattr(together, name), torch.cat([getattr(one, name) for one in alone]), rtol=1e-4, atol=1e-4
        )


@pytest.mark.slow
def test_unusual_pictures_are_counted_and_differentiated(
    critic: Critic, apples: Pictures, subtests: pytest.Subtests
) -> None:
    unusual = {
        "blank": torch.ones(1, 3, 128, 128),
        "black": torch.zeros(1, 3, 128, 128),
        "one object": apples((1,)),
        # The trained detectors see it smaller than they can count.
        "200 objects": torch.cat([apples((20,)).repeat(1, 1, 1, 5)] * 2, 2),
        "64x64": nn.functional.interpolate(apples((2,)), 64),
        "1024x768": nn.functional.interpolate(apples((5,)), (768, 1024), mode="bilinear"),
    }
    for kind, images in unusual.items():
        with subtests.test(kind=kind):
            probe = images.clone().requires_grad_(True)
            assessment = critic.evaluate(probe, {"apple": 400 if kind == "200 objects" else 10}, LOSSES["margin"])
            assessment.loss.sum().backward()
            assert torch.isfinite(probe.grad).all()
            assert torch.isfinite(assessment.soft_counts).all()
            assert int(assessment.counts) == int(critic.counts(images, ["apple"]))
            assert 0 <= int(assessment.counts) <= 1024


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
        expected = len(nms(proposals.boxes[0, above], scores[above], yolo.nms_iou))
    assert yolo.count(crowd, "apple") == expected


@pytest.mark.slow
def test_one_more_clear_object_raises_the_soft_count(trained_critic: Critic) -> None:
    before, after = _pairs(80)
    with torch.no_grad():
        first, second = (
            torch.cat([soft_count_of(trained_critic, part) for part in images.split(40)]) for images in (before, after)
        )
    share = float((second > first + 0.5).float().mean())
    assert share >= 0.95, f"{share:.1%} of the pairs"


@cache
def _pairs(number: int) -> tuple[Tensor, Tensor]:
    """Pictures, and the same with one more apple pasted where there is room."""
    import numpy as np

    rng = np.random.default_rng(5)
    scenes = [Scene(((0, int(rng.integers(0, 7))),), int(rng.integers(6))) for _ in range(number)]
    sprites = load_sprites()
    shown = render(scenes, sprites, torch.Generator().manual_seed(5))
    after = shown.images.clone()
    size = 30
    corners = torch.stack(torch.meshgrid(*[torch.arange(2, 128 - size, 4)] * 2, indexing="xy"), -1).flatten(0, 1)
    middles = corners + size / 2
    for row in range(number):
        boxes = shown.boxes[row][shown.present[row]]
        gap = (middles[:, None] - (boxes[None, :, :2] + boxes[None, :, 2:]) / 2).norm(dim=-1)
        room = gap - ((boxes[:, 2:] - boxes[:, :2]).amax(1) / 2)[None]
        best = int(room.amin(1).argmax()) if len(boxes) else int(rng.integers(len(corners)))
        x, y = corners[best].tolist()
        texture = nn.functional.interpolate(sprites[int(rng.integers(2)), :1, :4], size, mode="area")[0]
        area = after[row, :, y : y + size, x : x + size]
        area.copy_(area * (1 - texture[3:]) + texture[:3])
    return shown.images, after


@pytest.mark.slow
def test_autocast_stays_finite(critic: Critic, pictures: Pictures, subtests: pytest.Subtests) -> None:
    for dtype in (torch.bfloat16, torch.float16):
        with subtests.test(dtype=dtype):
            images = pictures(2).clone().requires_grad_(True)
            with torch.autocast("cpu", dtype=dtype):
                assessment = critic.evaluate(images, {"apple": 4}, LOSSES["d2d"])
            assessment.loss.sum().backward()
            assert assessment.loss.dtype == torch.float32
            assert torch.isfinite(assessment.loss).all()
            assert torch.isfinite(images.grad).all()


def test_counts_and_soft_counts_agree_where_the_margin_says_so(trained_critic: Critic, apples: Pictures) -> None:
    counts = (0, 1, 2, 3, 5, 8)
    images = apples(counts)
    for image, count in zip(images, counts, strict=True):
        assessment = trained_critic.evaluate(image[None], {"apple": count}, LOSSES["margin"])
        if assessment.margin > 1:
            assert int(assessment.counts) == count
            assert abs(float(assessment.soft_counts) - count) < 0.5


def test_several_objects_are_counted_in_one_pass(trained_critic: Critic) -> None:
    scenes = [Scene(((OBJECT_NAMES.index("apple"), 3), (OBJECT_NAMES.index("dog"), 2)), place) for place in range(6)]
    images = render(scenes, load_sprites(), torch.Generator().manual_seed(3)).images
    counts = trained_critic.counts(images, ["dogs", "apple"])
    assert (counts == torch.tensor([2, 3])).all(1).sum() >= 5


def test_an_unknown_object_is_refused_with_near_matches(trained_critic: Critic, pictures: Pictures) -> None:
    with pytest.raises(ValueError, match=r"'aple'.*apple"):
        trained_critic.counts(pictures(1), ["aple"])


def test_there_is_a_contract_for_every_critic_there_is(critics: Critics) -> None:
    tested = {type(critics(name)).__module__.rsplit(".", 1)[1] for name in BUILDERS}
    # A vision-language model answers in words: no boxes, no gradient, tests of its own in tests/critics/test_vlm.py.
    assert set(available()) - {"vlm"} <= tested


@pytest.mark.parametrize("name", ["owlv2", "grounding-dino", "clip-count"])
def test_an_empty_name_is_refused_by_an_open_vocabulary(critics: Critics, pictures: Pictures, name: str) -> None:
    for asked in ("", " "):
        with pytest.raises(ValueError, match="one or several object names"):
            critics(name).counts(pictures(1), [asked])


def test_a_name_that_the_tokenizer_drops_is_refused(critics: Critics, pictures: Pictures) -> None:
    with pytest.raises(ValueError, match="knows nothing of"):
        critics("grounding-dino").counts(pictures(1), ["\u200b"])
