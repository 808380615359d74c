"""What a judge counts is what its record shows."""

import pytest
import torch

from countgen import Models
from countgen.benchmarks.evaluation.judges import judged, record_fields
from countgen.critics.detectors.density import DensityCritic
from countgen.critics.networks.density import DensityCounter


def test_a_judgement_shows_exactly_what_was_counted(models: Models) -> None:
    image = models.backbone.render(
        models.backbone.initial_latents([3]), models.backbone.encode_prompt("a photo of four apples"), [3]
    )[0]
    counts, detections = found = judged(models.judge, image.detach()[None], ["apple", "cat"])[0]
    assert counts == tuple(models.judge.counts(image[None], ["apple", "cat"])[0].tolist())
    fields = record_fields({"judge": found})
    assert fields["judge_counts"] == {"judge": counts}
    assert len(fields["boxes"]["judge"]) == sum(counts)
    scores = torch.cat([one.scores for one in detections])
    assert fields["confidence"]["judge"] == pytest.approx(float(scores.mean()), abs=1e-4)


def test_a_judge_that_counts_without_detecting_shows_no_boxes() -> None:
    counter = DensityCritic(DensityCounter(2), ["apple", "cat"])
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    counts, detections = judged(counter, image[None], ["cat"])[0]
    assert counts == tuple(counter.counts(image[None], ["cat"])[0].tolist())
    fields = record_fields({"counter": (counts, detections)})
    assert (fields["boxes"], fields["confidence"]) == ({"counter": ()}, {"counter": 0.0})
