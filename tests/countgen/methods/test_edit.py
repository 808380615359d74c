"""An edit moves latents only where the count is undecided, loosens step by step, and says so."""

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor

import countgen
import countgen.run
from countgen.critics import Critic, Proposals
from countgen.editing import edit_run
from countgen.errors import RecipeError
from countgen.image_preservation import is_same_image
from countgen.methods.edit import PATCHES_MOVED, EditSettings
from countgen.methods.locality import PHASES, ConfinedLatents, high_pass, undecided_masks
from countgen.methods.problem import Problem
from countgen.miniature import load_detector
from countgen.prompts import Target
from countgen.recipe import regenerate


class Fixed(Critic):
    """A detector that always sees the same boxes, 16 pixels wide, at the threshold plus some safe distances.

    It sees them as cats; dogs are the same boxes in the opposite order of logits.
    """

    name = "fixed"
    object_names = ("cat", "dog")
    nms_iou = None
    one_class_per_box = False

    def __init__(self, *objects: tuple[float, float, float]) -> None:
        self.boxes = torch.tensor([[x, y, x + 16, y + 16] for x, y, _ in objects]).reshape(1, -1, 4)
        self.logits = torch.tensor([distance * self.safe_distance for _, _, distance in objects]).reshape(1, -1, 1)

    def propose(self, images: Tensor, object_names: Sequence[str]) -> Proposals:
        logits = torch.cat([self.logits, self.logits.flip(1)], -1) + 0 * images.mean()
        return Proposals(self.boxes, logits, tuple(map(self.column, object_names)))


def problem_of(models: countgen.Models, critic: Critic, **counts: int) -> Problem:
    with torch.no_grad():
        embeds = models.backbone.encode_prompt("a photo of cats")
    return Problem(models.backbone, (critic,), tuple(Target(name, count) for name, count in counts.items()), embeds)


def mask_of(models: countgen.Models, critic: Critic, **counts: int) -> Tensor:
    settings = EditSettings(dilation=0, safe_distance=2.0, least_distance=3.0)
    return undecided_masks(problem_of(models, critic, **counts), torch.zeros(1, 3, 128, 128), (32, 32), settings)[0, 0]


def test_high_pass_removes_low_frequencies_and_leaves_the_others_as_they_are():
    across, down = (torch.arange(length) * 2 * math.pi / length for length in (32, 24))
    slow, fast = torch.cos(2 * across).expand(1, 4, 24, 32), torch.cos(3 * down)[:, None].expand(1, 4, 24, 32)
    torch.testing.assert_close(high_pass(1 + slow + fast, 2), fast, atol=1e-5, rtol=0)
    torch.testing.assert_close(high_pass(fast, 3), torch.zeros(1, 4, 24, 32), atol=1e-5, rtol=0)
    assert high_pass(slow, -1) is slow


def test_the_mask_holds_undecided_candidates_and_no_others(models: countgen.Models):
    # Three are wanted: two are safe, one weak; of the others one is near the threshold, one far below it.
    critic = Fixed((0, 0, 9), (32, 0, 5), (64, 0, 0.5), (0, 64, -1), (64, 64, -2.5))
    expected = torch.zeros(32, 32)
    expected[0:5, 16:21] = 1
    expected[16:21, 0:5] = 1
    assert mask_of(models, critic, cat=3).equal(expected)


def test_each_class_has_undecided_candidates_of_its_own(models: countgen.Models):
    critic = Fixed((0, 0, 9), (64, 0, 0.5), (0, 64, -9), (64, 64, -9))
    mask = mask_of(models, critic, cat=2, dog=1)  # a second dog is one too many: the box of the last one's logit
    expected = torch.zeros(32, 32)
    expected[0:5, 16:21] = 1  # the weak cat
    expected[16:21, 0:5] = 1  # the weak dog
    assert mask.equal(expected)


def test_an_object_too_many_is_undecided_however_clear_it_is(models: countgen.Models):
    mask = mask_of(models, Fixed((0, 0, 30), (64, 64, 20)), cat=1)
    assert mask[16:21, 16:21].all()
    assert mask.sum() == 25


def test_gradient_passes_everywhere_if_nothing_is_undecided(models: countgen.Models):
    noise, gradient, images = torch.zeros(1, 4, 32, 32), torch.ones(1, 4, 32, 32), torch.zeros(1, 3, 128, 128)
    nothing_there = ConfinedLatents(problem_of(models, Fixed((0, 0, -9)), cat=1), noise, EditSettings(), level=0)
    assert nothing_there.local(gradient, images).equal(gradient)


def test_latents_have_only_the_frequencies_that_are_allowed_and_pass_the_whole_gradient(models: countgen.Models):
    noise = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    confined = ConfinedLatents(problem_of(models, Fixed(), cat=1), noise, EditSettings(frequency_cutoff=2), level=0)
    assert confined().equal(noise)
    with torch.no_grad():
        confined.displacement += torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    displaced = confined.displacement.detach().clone()
    latents = confined()
    torch.testing.assert_close(latents - noise, high_pass(displaced, 2), atol=1e-5, rtol=0)
    latents.sum().backward()
    assert confined.displacement.grad.equal(torch.ones(1, 4, 32, 32))


def test_each_level_loosens_the_constraints(models: countgen.Models):
    noise, gradient, images = torch.zeros(1, 4, 32, 32), torch.ones(1, 4, 32, 32), torch.zeros(1, 3, 128, 128)
    problem = problem_of(models, Fixed((0, 0, 0.5)), cat=1)
    levels = [ConfinedLatents(problem, noise, EditSettings(frequency_cutoff=4), level) for level in range(len(PHASES))]
    assert [confined.cutoff for confined in levels] == [4, 2, 1]
    assert [int(confined.local(gradient, images).sum()) for confined in levels] == [4 * 49, 4 * 49, 4 * 81]
    assert ConfinedLatents(problem, noise, EditSettings(frequency_cutoff=-1), level=2).cutoff == -1


def test_moves_come_before_gradients_and_every_step_is_still_the_same_image(models: countgen.Models):
    settings = EditSettings(batch_size=2, num_optimization_steps=2, num_rounds=4)
    run = countgen.Run("a photo of fifteen cats", models, method="edit", settings=settings, seed=1)
    steps = list(run)
    assert {step.seed for step in steps} == {1}
    assert {step.phase for step in steps} <= {PATCHES_MOVED, *PHASES}
    assert [step.index for step in steps] == list(range(len(steps)))
    spent = [after.evaluations - before.evaluations for before, after in pairwise(steps)]
    assert spent[0] == 2
    assert set(spent) <= {1, 2, 3}  # the start of a descent, a batch of moves, a gradient step
    assert [step.rank for step in steps] == sorted(step.rank for step in steps)
    for step in steps:
        assert is_same_image(steps[0].image, step.image, models.critics[0], run.targets)
    result = run.result()
    assert 0 <= result.objects_kept <= 1
    assert -1 <= result.structural_similarity <= 1
    assert 0 < result.background_change < 1 or result.image.equal(result.before)


@pytest.mark.core
@pytest.mark.parametrize("limit", [1, 4, 11])
def test_the_same_seed_gives_the_same_edit_within_the_budget(models: countgen.Models, limit: int):
    runs = [
        countgen.Run("a photo of nine cats", models, method="edit", seed=2, max_evaluations=limit) for _ in range(2)
    ]
    first, again = (list(run)[-1] for run in runs)
    assert first.evaluations <= limit
    assert first.latents.equal(again.latents)
    assert first.image.equal(again.image)


def test_an_edit_of_two_classes_starts_from_its_original_over_several_guided_steps(models: countgen.Models):
    sampled = countgen.backbones.load("miniature", num_inference_steps=2, guidance_scale=2.0)
    two_steps = countgen.Models(sampled, models.critics, models.judge)
    options = {"method": "edit", "seed": 1, "max_evaluations": 4}
    original = countgen.generate("a photo of six cats and seven dogs", two_steps, **options)
    run = edit_run(original, two_steps, counts={"dogs": 9}, max_evaluations=7)
    steps = list(run)
    assert run.prompt.given == "a photo of six cats and nine dogs"
    assert steps[0].latents.equal(run.original.latents[0])
    assert steps[-1].evaluations <= 7
    result = run.result()
    assert len(result.counts) == len(result.detections) == 2
    assert result.before.equal(original.image)
    assert result.seed == original.recipe["candidate_seed"]
    assert regenerate(result.recipe, sampled).equal(result.image)


def test_critics_without_boxes_leave_only_the_gradient(models: countgen.Models):
    density = load_detector("miniature-density")
    counted = countgen.Models(models.backbone, (density,), models.judge)
    steps = list(countgen.Run("a photo of fifteen cats", counted, method="edit", seed=1, max_evaluations=5))
    assert [step.evaluations for step in steps] == [1, 2, 5]
    assert {step.phase for step in steps} == {PHASES[0]}


def test_an_image_that_is_right_on_every_view_is_left_alone(models: countgen.Models):
    seed = next(s for s in range(20) if next(iter(plain_run(models, s))).margin > 0)
    result = countgen.generate("a photo of three cats", models, method="edit", seed=seed)
    assert (result.steps, result.evaluations) == (1, 1)
    assert result.image.equal(result.before)
    assert (result.objects_kept, result.background_change, result.structural_similarity) == (1, 0, 1)


def plain_run(models: countgen.Models, seed: int) -> countgen.Run:
    return countgen.Run("a photo of three cats", models, method="plain", seed=seed)


IMPOSSIBLE = [
    ({}, {}, "got no count"),
    ({}, {"unicorn": 2}, "has no class for 'unicorn'"),
    ({}, {"cat": 0}, "from 1 to 1000"),
    ({}, ["cat"], r"such as \{'apple': 7\}, got \['cat'\]"),
    ({"height": 256}, {"cat": 3}, "height 256, here it is 128"),
    ({"backbone": "sdxl-turbo"}, {"cat": 3}, "backbone 'sdxl-turbo', here it is 'miniature'"),
    ({"sampler": "EulerDiscreteScheduler"}, {"cat": 3}, "sampler 'EulerDiscreteScheduler', here it is '"),
    ({"loras": [{"name": "style"}]}, {"cat": 3}, r"loras \(\{'name': 'style'\},\), here it is \(\)"),
]
"""Changes of a recipe, counts, and a word of the error."""


def test_a_count_that_cannot_be_and_another_backbone_than_the_originals_are_errors(models: countgen.Models, subtests):
    original = countgen.generate("two cats", models, method="plain").recipe
    for change, counts, reason in IMPOSSIBLE:
        with subtests.test(reason=reason), pytest.raises(ValueError, match=reason):
            countgen.edit(original | change, models, counts=counts)
    with pytest.raises(RecipeError, match=r"got str; countgen\.images\.read_recipe reads the recipe"):
        countgen.edit("cats.png", models, counts={"cat": 3})


def test_only_an_edit_starts_from_an_image(models: countgen.Models):
    original = countgen.run.Original(torch.zeros(1, 4, 32, 32), torch.zeros(3, 128, 128), seed=0)
    with pytest.raises(ValueError, match="cannot start from an image"):
        countgen.Run("two cats", models, method="noise", original=original)
