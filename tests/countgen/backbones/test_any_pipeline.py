"""Text-to-image classes of diffusers without a family: the stock pipeline's image of each seed, found by search."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers

import countgen
from countgen import backbones, recipe
from countgen.backbones.any_pipeline import generates_from_a_prompt
from countgen.backbones.assembly import from_pipeline
from tests.countgen.backbones.conftest import (
    CLIP_TOKENIZER,
    NOISE,
    PROMPT,
    TEXT,
    _clip,
    _texts,
    _unet,
    build,
)

SIDE = 32
# diffusers warns of its own imports.
pytestmark = pytest.mark.filterwarnings("ignore:.FluxPosEmbed:FutureWarning")
FLOW = {"shift_factor": 0.1159, "scaling_factor": 0.3611}


def _of(name: str, kind: str, **changes: Any) -> Any:
    """Return a pipeline of another class, of the components of a tiny one."""
    parts = build(name).components | changes
    taken = getattr(diffusers, kind).__init__.__code__.co_varnames
    return getattr(diffusers, kind)(**{part: value for part, value in parts.items() if part in taken})


def _consistency() -> Any:
    unet = _unet(cross_attention_dim=16, time_cond_proj_dim=8)
    scheduler = diffusers.LCMScheduler(**NOISE)
    return _of(
        "stable_diffusion",
        "LatentConsistencyModelPipeline",
        unet=unet,
        scheduler=scheduler,
        requires_safety_checker=False,
    )


def _chroma() -> Any:
    parts = build("flux").components
    return diffusers.ChromaPipeline(
        scheduler=parts["scheduler"],
        vae=parts["vae"],
        text_encoder=parts["text_encoder_2"],
        tokenizer=parts["tokenizer_2"],
        transformer=diffusers.ChromaTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            axes_dims_rope=(4, 4, 8),
            approximator_num_channels=8,
            approximator_hidden_dim=16,
            approximator_layers=1,
        ),
    )


def _sana() -> Any:
    transformer = build("sana").transformer.config | {"guidance_embeds": False}
    return _of(
        "sana",
        "SanaPipeline",
        transformer=diffusers.SanaTransformer2DModel.from_config(transformer),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
    )


def _lumina() -> Any:
    gemma = transformers.Gemma2Config(**TEXT, num_hidden_layers=1, num_key_value_heads=2, head_dim=8)
    return diffusers.Lumina2Pipeline(
        transformer=diffusers.Lumina2Transformer2DModel(
            sample_size=4,
            in_channels=4,
            hidden_size=24,
            num_layers=1,
            num_refiner_layers=1,
            num_attention_heads=1,
            num_kv_heads=1,
            multiple_of=2,
            cap_feat_dim=16,
            axes_dim_rope=(8, 8, 8),
            axes_lens=(300, 128, 128),
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=diffusers.AutoencoderKL(
            block_out_channels=(4, 4, 4, 4),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1,
            norm_num_groups=2,
            **FLOW,
        ),
        text_encoder=transformers.Gemma2Model(gemma),
        tokenizer=transformers.PreTrainedTokenizerFast.from_pretrained(CLIP_TOKENIZER, model_max_length=256),
    )


def _amused() -> Any:
    return diffusers.AmusedPipeline(
        transformer=diffusers.UVit2DModel(
            hidden_size=8,
            cond_embed_dim=16,
            micro_cond_encode_dim=2,
            micro_cond_embed_dim=10,
            encoder_hidden_size=16,
            vocab_size=32,
            codebook_size=32,
            block_out_channels=8,
            block_num_heads=1,
            num_hidden_layers=1,
            num_attention_heads=1,
            intermediate_size=8,
            in_channels=8,
        ),
        vqvae=diffusers.VQModel(
            block_out_channels=[8],
            down_block_types=["DownEncoderBlock2D"],
            up_block_types=["UpDecoderBlock2D"],
            layers_per_block=1,
            norm_num_groups=2,
            latent_channels=8,
            num_vq_embeddings=32,
            sample_size=32,
            mid_block_add_attention=False,
            lookup_from_codebook=True,
        ),
        **_texts(_clip(projected=True)),
        scheduler=diffusers.AmusedScheduler(mask_token_id=31),
    )


CLASSES: dict[str, Callable[[], Any]] = {
    "AmusedPipeline": _amused,
    "ChromaPipeline": _chroma,
    "LatentConsistencyModelPipeline": _consistency,
    "Lumina2Pipeline": _lumina,
    "SanaPipeline": _sana,
    "StableDiffusionPanoramaPipeline": lambda: _of(
        "stable_diffusion", "StableDiffusionPanoramaPipeline", requires_safety_checker=False
    ),
    "StableDiffusionXLPAGPipeline": lambda: _of("stable_diffusion_xl", "StableDiffusionXLPAGPipeline"),
}


@pytest.fixture(params=CLASSES)
def pipeline(request: pytest.FixtureRequest) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = CLASSES[request.param]()
    pipeline.set_progress_bar_config(disable=True)
    for component in pipeline.components.values():
        if isinstance(component, torch.nn.Module):
            component.eval()
    return pipeline


def test_a_seed_gives_the_stock_pipelines_image_in_memory_and_from_a_folder(
    pipeline: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kind = type(pipeline).__name__
    settings: dict[str, Any] = {"num_inference_steps": 2, "height": SIDE, "width": SIDE}
    stock = pipeline(PROMPT, generator=torch.Generator().manual_seed(5), output_type="np", **settings).images[0]
    pipeline.save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING):
        loaded = (from_pipeline(pipeline, **settings), backbones.load(tmp_path, **settings))
    assert [kind in message and "seeds alone" in message for message in caplog.messages].count(True) == 2
    for backbone in loaded:
        assert backbone.seeds_only
        assert backbone.family == "any_pipeline"
        with torch.no_grad():
            embeds = backbone.encode_prompt(PROMPT)
            images, _ = backbone.render_in_parts(backbone.initial_latents([5, 6]), embeds, [5, 6])
        assert images.shape == (2, 3, SIDE, SIDE)
        expected = torch.from_numpy(stock).permute(2, 0, 1)
        torch.testing.assert_close(images[0], expected, atol=0.5 / 255 + 1e-4, rtol=0)
        assert (images[0] - images[1]).abs().mean() > 1e-3, "the seed has no effect"


def test_a_search_and_its_recipe_work_and_gradient_is_refused(tmp_path: Path) -> None:
    pipeline = _sana()
    pipeline.save_pretrained(tmp_path)
    options: dict[str, Any] = {"num_inference_steps": 1, "height": SIDE, "width": SIDE, "judge": None}
    models = countgen.load(tmp_path, critics="miniature-fcos", **options)
    result = countgen.generate("a photo of two apples", models, method="search", max_evaluations=2)
    assert result.recipe["family"] == "any_pipeline"
    checked = recipe.check(result.recipe, model=str(tmp_path))
    assert torch.equal(recipe.regenerate(result.recipe, checked.load("cpu")), result.image)
    with pytest.raises(ValueError, match="needs latents and gradient"):
        countgen.Run("a photo of two apples", models, method="noise")
    assert countgen.generate("a photo of two apples", models, method="plain", negative_prompt="blurry").counts


def test_classes_that_need_more_than_a_prompt_are_not_read() -> None:
    read = "Krea2 Ideogram4 OvisImage GlmImage PRX Kandinsky5T2I LongCatImage QwenImage HunyuanDiT Flux2 Chroma".split()
    assert [name for name in read if not generates_from_a_prompt(f"{name}Pipeline")] == []
    others = "StableDiffusionImg2Img StableDiffusionXLInpaint FluxControl StableDiffusionControlNet QwenImageEdit Wan"
    assert [
        name for name in [*others.split(), "Kandinsky", "Diffusion"] if generates_from_a_prompt(f"{name}Pipeline")
    ] == []
