"""Several critics and views agree on one verdict."""

import torch

from countgen.methods.objective import CONFIRMING, PLAIN, View, examine, look
from countgen.miniature.world import Scene, load_sprites, render
from countgen.prompts import Target
from critics.detections import hard_count
from critics.losses import LOSSES
from critics.soft_indicator import margin


def scene(kind: int, count: int, seed: int = 0) -> torch.Tensor:
    """A rendered picture with a known count (1, 3, 128, 128)."""
    generator = torch.Generator().manual_seed(seed)
    return render([Scene(((kind, count),), 0)], load_sprites(), generator).images


def test_confirms_a_clear_scene_and_rejects_a_wrong_target(models):
    images = scene(0, 3)
    right = examine(images, [Target("apple", 3)], models.critics, CONFIRMING, LOSSES["margin"])
    assert right.counts.tolist() == [[3]]
    assert right.margin > 0
    for wrong in (2, 4):
        verdict = examine(images, [Target("apple", wrong)], models.critics, CONFIRMING, LOSSES["margin"])
        assert verdict.margin < 0
        assert verdict.loss > right.loss


def test_margin_is_the_smallest_over_critics_views_and_targets(models):
    images = torch.cat([scene(0, 3), scene(0, 5, seed=1)])
    targets = [Target("apple", 3), Target("dog", 1)]
    verdict = examine(images, targets, models.critics, CONFIRMING, LOSSES["margin"])
    smallest = torch.stack(
        [
            margin(candidates, target.target_count, critic.threshold_logit) / critic.margin
            for critic in models.critics
            for view in CONFIRMING
            for target, candidates in zip(targets, look(critic, images, ["apple", "dog"], view), strict=True)
        ]
    ).amin(0)
    torch.testing.assert_close(verdict.margin, smallest)


def test_counts_are_those_of_the_first_critic_on_the_plain_picture(models):
    images = scene(11, 4, seed=2)
    verdict = examine(images, [Target("dog", 4)], models.critics, CONFIRMING, LOSSES["margin"])
    (candidates,) = models.critics[0].candidates(images, ["dog"])
    assert verdict.counts[0, 0] == hard_count(candidates, models.critics[0].threshold_logit)[0]


def test_a_mirrored_view_sees_the_mirrored_picture(models):
    critic, images = models.critics[0], scene(18, 2, seed=3)
    (seen,) = look(critic, images, ["car"], View(mirror=True))
    (expected,) = critic.candidates(images.flip(-1), ["car"])
    torch.testing.assert_close(seen.logits, expected.logits)


def test_a_larger_view_changes_the_detectors_input_and_not_the_boxes_frame(models):
    critic, images = models.critics[0], scene(10, 1, seed=4)
    (plain,) = look(critic, images, ["cat"], View())
    (larger,) = look(critic, images, ["cat"], View(scale=1.125))
    assert not torch.equal(plain.logits[:, :1], larger.logits[:, :1])
    assert (plain.boxes[0, 0] - larger.boxes[0, 0]).abs().max() < 8


def test_a_view_that_a_critic_sees_as_the_first_is_neither_paid_for_nor_counted(models):
    looks = []

    class Fixed(type(models.judge)):
        def assess(self, images, *rest, **options):
            looks.append(len(images))
            return super().evaluate(images, *rest, **options)

    critic = Fixed(models.judge.detector, models.judge.object_names)
    images, targets, loss = scene(0, 3), [Target("apple", 5)], LOSSES["margin"]
    verdict = examine(images, targets, [critic], CONFIRMING, loss)
    assert looks == [2]
    apart = examine(images, targets, [critic], CONFIRMING[:2], loss)
    assert torch.equal(verdict.loss, apart.loss)
    assert torch.equal(verdict.margin, apart.margin)


def test_gradient_reaches_every_picture(models):
    images = torch.cat([scene(0, 3), scene(1, 2, seed=5)]).requires_grad_(True)
    examine(images, [Target("apple", 6)], models.critics, PLAIN, LOSSES["margin"]).loss.sum().backward()
    assert torch.isfinite(images.grad).all()
    assert (images.grad.flatten(1).norm(dim=1) > 0).all()
