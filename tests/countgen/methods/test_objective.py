"""One evaluation over several critics and views."""

import torch

from countgen.benchmarks.miniature.world import Scene, load_sprites, render
from countgen.critics.losses import l1
from countgen.critics.soft_indicator import distance_to_change
from countgen.methods.objective import CONFIRMATION_VIEWS, Objective
from countgen.prompts import Target


def scene(kind: int, count: int, seed: int = 0) -> torch.Tensor:
    """A rendered picture with a known count (1, 3, 128, 128)."""
    generator = torch.Generator().manual_seed(seed)
    return render([Scene(((kind, count),), 0)], load_sprites(), generator).images


def test_each_margin_is_the_smallest_over_the_targets_of_a_critic_on_a_view(models):
    images = torch.cat([scene(0, 3), scene(0, 5, seed=1)])
    targets = [Target("apple", 3), Target("dog", 1)]
    objective = Objective(models.critics, tuple(targets), CONFIRMATION_VIEWS)
    smallest = torch.stack(
        [
            distance_to_change(candidates, target.target_count, critic.threshold_logit) / critic.safe_distance
            for critic in models.critics
            for view in CONFIRMATION_VIEWS
            for target, candidates in zip(
                targets,
                critic.at_scale(view.scale).candidates(images.flip(-1) if view.mirror else images, ["apple", "dog"]),
                strict=True,
            )
        ]
    ).unflatten(0, (-1, len(targets)))
    torch.testing.assert_close(objective.evaluate(images).margin, smallest.amin(1).T)
    assert [critic.name for critic in objective.columns] == [critic.name for critic in models.critics for _ in range(3)]


def test_the_loss_is_the_sum_over_critics_of_the_mean_over_their_views(models):
    images, target_counts = torch.cat([scene(0, 3), scene(0, 5, seed=1)]), {"apple": 4}
    expected = sum(
        torch.stack(
            [
                critic.at_scale(view.scale).evaluate(images.flip(-1) if view.mirror else images, target_counts, l1).loss
                for view in CONFIRMATION_VIEWS
            ]
        ).mean(0)
        for critic in models.critics
    )
    objective = Objective(models.critics, (Target("apple", 4),), CONFIRMATION_VIEWS, "l1")
    torch.testing.assert_close(objective.evaluate(images).loss, expected)


def test_a_view_that_a_critic_sees_as_the_first_is_neither_paid_for_nor_counted(models):
    looks = []

    class Fixed(type(models.judge)):
        def evaluate(self, images, *rest, **options):
            looks.append(len(images))
            return super().evaluate(images, *rest, **options)

    critic = Fixed(models.judge.model, models.judge.object_names)
    images, targets = scene(0, 3), (Target("apple", 5),)
    evaluation = Objective((critic,), targets, CONFIRMATION_VIEWS).evaluate(images)
    assert looks == [2]
    apart = Objective((critic,), targets, CONFIRMATION_VIEWS[:2]).evaluate(images)
    assert torch.equal(evaluation.loss, apart.loss)
    assert torch.equal(evaluation.margin, apart.margin)
