"""Injection of a token into the text encoders, and the unchanged backbone afterwards."""

import copy
import re
import shutil

import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline
from safetensors.torch import load, load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

import countgen
from countgen import backbones, miniature
from countgen.backbones.registry import base_model
from countgen.errors import TokenFileError
from countgen.tokens.file import encoded
from countgen.tokens.textual_inversion import check_token, encode_prompt, encoders_of, injected
from tests.countgen.tokens.examples import token_of

pytestmark = pytest.mark.core


def embeds_equal(first, second):
    return all(
        torch.equal(getattr(first, name), getattr(second, name))
        for name in ("prompt_embeds", "pooled_prompt_embeds", "attention_mask")
        if getattr(first, name) is not None
    )


def test_words_as_a_token_give_the_same_embeds_as_the_words(backbone):
    token = token_of(backbone)
    with torch.no_grad():
        with_token = encode_prompt(backbone, "a photo of seven apples", token)
        written = backbone.encode_prompt("a photo of seven of apples")
    assert embeds_equal(with_token, written)


def test_the_backbone_is_restored_after_use(backbone):
    encoders = encoders_of(backbone).values()
    tables = [encoder.table.weight.clone() for encoder in encoders]
    tokenizers = [getattr(backbone.pipeline, encoder.tokenizer) for encoder in encoders]
    vocabularies = [tokenizer.get_vocab() for tokenizer in tokenizers]
    before = backbone.encode_prompt("a photo of seven apples")
    with pytest.raises(RuntimeError, match="in between"), injected(backbone, "<count-7>", token_of(backbone).vectors):
        raise RuntimeError("in between")
    assert embeds_equal(before, backbone.encode_prompt("a photo of seven apples"))
    for encoder, table, tokenizer, vocabulary in zip(encoders, tables, tokenizers, vocabularies, strict=True):
        assert torch.equal(encoder.table.weight, table)
        assert getattr(backbone.pipeline, encoder.tokenizer) is tokenizer
        assert tokenizer.get_vocab() == vocabulary
        assert not encoder.module._forward_pre_hooks
        assert not encoder.table._forward_hooks


def test_gradient_reaches_every_vector_of_every_encoder(light_models):
    backbone = light_models.backbone
    vectors = {key: value.requires_grad_(True) for key, value in token_of(backbone).vectors.items()}
    with injected(backbone, "<count-7>", vectors) as encode:
        embeds = encode("a photo of <count-7> apples")
        backbone.render(backbone.initial_latents([0]), embeds).sum().backward()
    for value in vectors.values():
        assert (value.grad.norm(dim=1) > 0).all()
    assert all(p.grad is None for e in encoders_of(backbone).values() for p in e.module.parameters())


def half(encoder):
    return copy.deepcopy(encoder).to(torch.bfloat16)


def pooling_at_the_highest_id(encoder):
    """Return an encoder with eos_token_id 2, as SDXL's published second one, which pools at the highest id."""
    config = CLIPTextConfig.from_dict(encoder.config.to_dict() | {"eos_token_id": 2})
    legacy = CLIPTextModelWithProjection(config).eval()
    legacy.load_state_dict(encoder.state_dict())
    return legacy


@pytest.mark.parametrize(
    "changes", [{"text_encoder": half, "text_encoder_2": half}, {"text_encoder_2": pooling_at_the_highest_id}]
)
def test_encoders_in_half_precision_and_with_another_pooled_position_take_the_token(light_models, changes):
    backbone = copy.copy(light_models.backbone)
    backbone.pipeline = copy.copy(light_models.backbone.pipeline)
    for name, changed in changes.items():
        setattr(backbone.pipeline, name, changed(getattr(backbone.pipeline, name)))
    with torch.no_grad():
        with_token = encode_prompt(backbone, "seven apples", token_of(light_models.backbone))
        written = backbone.encode_prompt("seven of apples")
    assert with_token.prompt_embeds.dtype == backbone.dtype == torch.float32  # of the denoiser, which reads them
    assert embeds_equal(with_token, written)


def test_the_stock_pipeline_generates_the_same_image_from_the_file(light_models):
    backbone = light_models.backbone
    token = token_of(backbone, "seven <|endoftext|>")  # not in any prompt, so the words alone cannot do it
    token.vectors["clip_l"].normal_(std=0.03, generator=torch.Generator().manual_seed(1))
    token.vectors["clip_g"].normal_(std=0.03, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        embeds = encode_prompt(backbone, "a photo of seven apples", token)
        own = backbone.render(backbone.initial_latents([3]), embeds, [3])[0]
    stock = backbones.load("miniature", device="cpu").pipeline
    tensors = load(encoded(token))
    parts = (("clip_l", stock.tokenizer, stock.text_encoder), ("clip_g", stock.tokenizer_2, stock.text_encoder_2))
    for key, tokenizer, encoder in parts:
        stock.load_textual_inversion(
            tensors[key], token=token.placeholder_token, tokenizer=tokenizer, text_encoder=encoder
        )
    sampling = {"num_inference_steps": 1, "guidance_scale": 0.0, "height": 128, "width": 128, "output_type": "pt"}
    expected = stock("a photo of <count-7> apples", generator=torch.Generator().manual_seed(3), **sampling).images[0]
    torch.testing.assert_close(own, expected, atol=1e-4, rtol=0)


def test_a_file_of_one_encoder_loads_into_the_stock_pipeline_unchanged(light_models, tmp_path):
    pipeline = light_models.backbone.pipeline
    token = token_of(light_models.backbone)
    token = token_of(light_models.backbone, vectors={"clip_l": token.vectors["clip_l"]})
    # A token only affects the text encoder, so that the other components may be any.
    parts = {name: copy.deepcopy(getattr(pipeline, name)) for name in ("text_encoder", "tokenizer")}
    parts |= {"vae": pipeline.vae, "unet": pipeline.unet, "scheduler": EulerDiscreteScheduler(steps_offset=1)}
    stock = StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    stock.load_textual_inversion(countgen.save_token(token, tmp_path / "learned_embeds.safetensors"))
    with torch.no_grad():
        with_token, _ = stock.encode_prompt("a photo of <count-7> apples", "cpu", 1, False)
        written, _ = stock.encode_prompt("a photo of seven of apples", "cpu", 1, False)
    torch.testing.assert_close(with_token, written)


def test_another_repository_accepts_the_presets_tokens_and_its_own_tokens_fit_only_itself(light_models, tmp_path):
    shipped = miniature.FOLDER / "mini-sdxl-turbo"
    first, other = (shutil.copytree(shipped, tmp_path / name / "pipeline") for name in ("first", "other"))
    own_model = backbones.load("miniature", repository=str(first))
    token = token_of(own_model, base_model=base_model(own_model))
    assert re.fullmatch("miniature:pipeline-[0-9a-f]{8}", token.base_model)
    check_token(token, own_model)
    check_token(token_of(light_models.backbone), own_model)
    with pytest.raises(TokenFileError, match=r"'miniature:pipeline-.*'miniature'"):
        check_token(token, light_models.backbone)
    weights = other / "text_encoder" / "model.safetensors"
    save_file({name: tensor + 0.001 for name, tensor in load_file(weights).items()}, weights, metadata={"format": "pt"})
    with pytest.raises(TokenFileError, match=r"'miniature:pipeline-.*'miniature:pipeline-"):
        check_token(token, backbones.load("miniature", repository=str(other)))
    assert base_model(backbones.load("miniature", repository=f"{shipped}/")) == "miniature"


def test_tokens_of_another_model_and_vectors_that_do_not_fit_are_errors_naming_both(light_models, pixart):
    wide = {"clip_l": torch.zeros(1, 768), "clip_g": torch.zeros(1, 1280)}
    for token, message in (
        (token_of(pixart), r"'miniature-pixart'.*'miniature'"),
        (token_of(light_models.backbone, vectors=wide), r"\(1, 768\).*128"),
        (token_of(pixart, base_model="miniature"), "has vectors for t5; miniature needs clip_l"),
    ):
        with pytest.raises(TokenFileError, match=message):
            encode_prompt(light_models.backbone, "seven apples", token)
