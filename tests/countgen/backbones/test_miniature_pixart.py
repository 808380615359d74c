"""The miniature's PixArt model end to end."""

import countgen


def test_the_one_step_transformer_reaches_a_confirmed_count() -> None:
    pixart = countgen.load("miniature-pixart", device="cpu")
    assert pixart.backbone.pipeline.scheduler.config.prediction_type == "v_prediction"  # of the checkpoint
    result = countgen.generate("a photo of four cats", pixart, seed=1, max_evaluations=200)
    assert result.confirmed
    assert result.counts == (4,)
    assert result.verified
