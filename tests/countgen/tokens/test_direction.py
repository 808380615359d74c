"""The number direction of a token: what it moves."""

from dataclasses import replace

import pytest
import torch

from countgen.errors import TokenFileError
from countgen.tokens.textual_inversion import encode_prompt
from tests.countgen.tokens.examples import direction_token_of

pytestmark = pytest.mark.core

PROMPT = "a photo of fourteen apples"


@torch.no_grad()
def test_a_prompt_is_moved_from_the_start_number_at_its_position_and_after_it(backbone):
    token = direction_token_of(backbone)
    start = backbone.encode_prompt("a photo of twelve apples")
    moved = encode_prompt(backbone, PROMPT, token)
    place = backbone.pipeline.tokenizer("a photo of", add_special_tokens=False).input_ids
    place = len(place) + (backbone.name == "miniature")  # CLIP begins with a token of its own
    expected = start.prompt_embeds.clone()
    expected[:, place] += 2 * token.direction.prompt_embeds[0]
    expected[:, place + 1 :] += 2 * token.direction.prompt_embeds[1]
    torch.testing.assert_close(moved.prompt_embeds, expected)
    if start.pooled_prompt_embeds is not None:
        pooled = start.pooled_prompt_embeds + 2 * token.direction.pooled_prompt_embeds
        torch.testing.assert_close(moved.pooled_prompt_embeds, pooled)
    if start.attention_mask is not None:
        assert torch.equal(moved.attention_mask, start.attention_mask)


@torch.no_grad()
def test_the_moves_of_two_numbers_add_up_and_another_number_stays_a_word(light_models):
    token = direction_token_of(light_models.backbone)
    start = light_models.backbone.encode_prompt("twelve apples and two cups and twelve dogs")
    moved = encode_prompt(light_models.backbone, "fourteen apples and two cups and <count-14> dogs", token)
    at_number, after = 2 * token.direction.prompt_embeds
    expected = torch.zeros_like(start.prompt_embeds)
    for first in (1, 7):
        expected[:, first] += at_number
        expected[:, first + 1 :] += after
    torch.testing.assert_close(moved.prompt_embeds, start.prompt_embeds + expected)
    pooled = start.pooled_prompt_embeds + 4 * token.direction.pooled_prompt_embeds
    torch.testing.assert_close(moved.pooled_prompt_embeds, pooled)


def test_the_negative_prompt_and_the_dtype_stay(light_models):
    embeds = light_models.backbone.encode_prompt(PROMPT).map(lambda tensor: tensor.half())
    embeds = replace(embeds, negative_prompt_embeds=torch.ones(1, 32, 256))
    moved = direction_token_of(light_models.backbone).direction.moved(embeds, [(4, 5)])
    assert moved.prompt_embeds.dtype == moved.pooled_prompt_embeds.dtype == torch.float16
    assert torch.equal(moved.negative_prompt_embeds, torch.ones(1, 32, 256))


def test_a_direction_for_other_embeddings_is_an_error_that_names_both(light_models):
    token = direction_token_of(light_models.backbone)
    wide = replace(token.direction, prompt_embeds=torch.ones(2, 300))
    with pytest.raises(TokenFileError, match=r"300 \(prompt_embeds\).*the model's have 256"):
        encode_prompt(light_models.backbone, PROMPT, replace(token, direction=wide))
    without = replace(token.direction, pooled_prompt_embeds=None)
    with pytest.raises(TokenFileError, match=r"128 \(pooled_prompt_embeds\)"):
        encode_prompt(light_models.backbone, PROMPT, replace(token, direction=without))
