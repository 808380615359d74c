"""A pipeline that the user loaded is taken as it is; what gradients cannot pass is an error that names it."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
from diffusers import StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline
from diffusers.models.embeddings import MultiIPAdapterImageProjection
from torch import nn

import countgen
from countgen.backbones import Backbone
from countgen.backbones.assembly import from_pipeline
from countgen.errors import RecipeError
from countgen.recipe import regenerate
from tests.countgen.backbones.conftest import BUILDERS, PROMPT, build, images_of, stock_images, tiny

DETECTORS: dict[str, Any] = {"critics": ("miniature-yolo",), "judge": "miniature-fcos"}


@pytest.fixture
def pipeline() -> Any:
    """Return a tiny pipeline of the test's own."""
    return build("stable_diffusion_xl")


def check(pipeline: Any, tolerance: float = 1e-4) -> Backbone:
    """The stock pipeline's image comes out, with a gradient to the latents."""
    backbone = from_pipeline(pipeline, num_inference_steps=1, guidance_scale=0.0)
    with torch.no_grad():
        embeds = backbone.encode_prompt(PROMPT)
    latents = backbone.initial_latents([1]).requires_grad_(True)
    images = backbone.render(latents, embeds, [1])
    (images * torch.linspace(0, 1, images.shape[-1])).sum().backward()
    assert latents.grad is not None
    assert latents.grad.isfinite().all()
    assert latents.grad.abs().max() > 0
    expected = stock_images(pipeline, backbone, [1]).float()
    torch.testing.assert_close(images.detach(), expected, atol=tolerance, rtol=0)
    return backbone


def _adapted(pipeline: Any) -> None:
    from peft import LoraConfig

    modules = ["to_k", "to_q", "to_v", "to_out.0"]
    pipeline.unet.add_adapter(LoraConfig(r=2, lora_alpha=4, init_lora_weights=False, target_modules=modules))


WORKS: dict[str, Callable[[Any], Any]] = {
    "another scheduler": lambda p: setattr(p, "scheduler", build("stable_diffusion").scheduler),
    "attention slicing": lambda p: p.enable_attention_slicing(),
    "attention backend": lambda p: p.unet.set_attention_backend("native"),
    "VAE slicing and tiling": lambda p: (p.vae.enable_slicing(), p.vae.enable_tiling()),
    "FreeU": lambda p: p.enable_freeu(s1=0.9, s2=0.2, b1=1.3, b2=1.4),
    "fused projections": lambda p: p.fuse_qkv_projections(),
    "channels last": lambda p: p.unet.to(memory_format=torch.channels_last),
    "gradient checkpointing": lambda p: p.unet.enable_gradient_checkpointing(),
    "torch.compile": lambda p: setattr(p, "unet", torch.compile(p.unet, backend="eager")),
    "compiled in place": lambda p: p.unet.compile(backend="eager"),
    "LoRA": _adapted,
}


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch.compile's own
@pytest.mark.parametrize(
    "feature",
    [pytest.param(name, marks=[pytest.mark.nightly] if name == "compiled in place" else []) for name in WORKS],
)
def test_a_feature_works(feature: str, pipeline: Any) -> None:
    if feature == "LoRA" and find_spec("peft") is None:
        pytest.skip("needs peft, the extra countgen[lora]")
    WORKS[feature](pipeline)
    backbone = check(pipeline)
    if feature in ("FreeU", "LoRA"):
        plain = stock_images(tiny("stable_diffusion_xl"), backbone, [1])
        assert (images_of(backbone, [1]) - plain).abs().max() > 1e-4, "the feature does not show"


@pytest.mark.filterwarnings("ignore:`upcast_vae` is deprecated")  # the stock pipeline's own
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.03), (torch.float16, 0.01)])
def test_its_dtype_is_kept(dtype: torch.dtype, tolerance: float, pipeline: Any) -> None:
    backbone = check(pipeline.to(dtype), tolerance)
    assert backbone.dtype == pipeline.vae.dtype == dtype
    assert backbone.pipeline.vae.dtype == (torch.float32 if dtype == torch.float16 else dtype)


def test_text_encoders_of_another_dtype_work() -> None:
    pipeline = build("stable_diffusion_3")
    backbone = from_pipeline(pipeline, num_inference_steps=1)
    images = images_of(backbone, [1])
    for part in ("text_encoder", "text_encoder_2", "text_encoder_3"):
        getattr(pipeline, part).to(torch.bfloat16)
    assert backbone.encode_prompt(PROMPT).prompt_embeds.dtype == backbone.dtype == torch.float32
    torch.testing.assert_close(images_of(backbone, [1]), images, atol=0.05, rtol=0)


def _quantised(pipeline: Any) -> None:
    linear = pipeline.unet.time_embedding.linear_1
    linear.weight = nn.Parameter(torch.zeros_like(linear.weight, dtype=torch.int8), requires_grad=False)


IP_ADAPTER = MultiIPAdapterImageProjection([nn.Identity()])
IMPOSSIBLE: dict[str, tuple[Callable[[Any], Any], str]] = {
    "model offload": (lambda p: p.enable_model_cpu_offload(device="cpu"), "CPU offload.*remove_all_hooks"),
    "offload of one part": (lambda p: accelerate.cpu_offload_with_hook(p.unet, "cpu"), "unet under CPU offload"),
    "sequential offload": (lambda p: p.enable_sequential_cpu_offload(device="cpu"), "CPU offload"),
    "group offload": (
        lambda p: p.unet.enable_group_offload(torch.device("cpu"), offload_type="leaf_level"),
        r"unet \(group offloading\)",
    ),
    "layerwise casting": (
        lambda p: p.unet.enable_layerwise_casting(torch.float8_e4m3fn, torch.float32),
        r"unet \(layerwise casting\)",
    ),
    "quantised weights": (_quantised, r"a quantised unet \(int8\)"),
    "torch's quantisation": (
        lambda p: setattr(p, "unet", torch.ao.quantization.quantize_dynamic(p.unet, {nn.Linear})),
        r"a quantised unet \(Linear\)",
    ),
    "several devices": (lambda p: setattr(p, "hf_device_map", {"unet": 0, "vae": "cpu"}), "spread over devices"),
    "a part on several devices": (lambda p: setattr(p.unet, "hf_device_map", {"a": 0, "b": 1}), "spread .*UNet"),
    "IP-adapter": (lambda p: setattr(p.unet, "encoder_hid_proj", IP_ADAPTER), "IP-adapter.*unload_ip_adapter"),
    "meta device": (lambda p: p.vae.to("meta"), "a vae without weights"),
    "no text encoder": (lambda p: [setattr(p, f"text_encoder{n}", None) for n in ("", "_2")], "no text encoder"),
    "guidance as an input": (lambda p: p.unet.register_to_config(time_cond_proj_dim=8), "time_cond_proj_dim"),
    "inpainting": (lambda p: p.unet.register_to_config(in_channels=9), "9 input channels for latents of 4"),
}


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated")  # what replaces it needs torchao
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize("feature", IMPOSSIBLE)
def test_a_feature_that_gradients_cannot_pass_is_named(feature: str, pipeline: Any) -> None:
    turn_on, message = IMPOSSIBLE[feature]
    turn_on(pipeline)
    with pytest.raises(ValueError, match=message):
        from_pipeline(pipeline)


def test_a_pipeline_that_was_loaded_onto_one_device_works() -> None:
    folder = countgen.miniature.FOLDER / "mini-sdxl-turbo"
    loaded = StableDiffusionXLPipeline.from_pretrained(folder, dtype=torch.float32, device_map="cpu")
    loaded.set_progress_bar_config(disable=True)
    assert loaded.hf_device_map == "cpu"
    check(loaded)


def test_another_pipeline_class_says_how_to_make_one_that_is_read(pipeline: Any) -> None:
    with pytest.raises(ValueError, match=r"StableDiffusionXLPipeline.from_pipe\(pipe\)"):
        from_pipeline(StableDiffusionXLImg2ImgPipeline.from_pipe(pipeline))


STEPS = {"stable_diffusion_3": 28, "pixart": 20, "flux guided": 28, "sana": 2, "z_image": 50, "flux2 base": 50}
"""Steps of a family or a tiny pipeline; 4 where it is made for few steps."""


@pytest.mark.parametrize("name", BUILDERS)
def test_every_family_is_taken_with_its_own_steps_and_size(name: str) -> None:
    pipeline = build(name)
    backbone = from_pipeline(pipeline)
    assert backbone.family == name.split()[0]
    assert backbone.chosen
    assert backbone.num_inference_steps == STEPS.get(name, STEPS.get(backbone.family, 4))
    sized = getattr(pipeline, "default_sample_size", None) or getattr(backbone.denoiser.config, "sample_size", 128)
    assert (backbone.height, backbone.width) == (sized * pipeline.vae_scale_factor,) * 2


@pytest.mark.parametrize("scheduler_name", [None, "DDIMScheduler"])
def test_the_users_pipeline_stays_as_it_is(scheduler_name: str | None, pipeline: Any) -> None:
    config, parts, scheduler = dict(pipeline.config), dict(pipeline.components), repr(vars(pipeline.scheduler))
    backbone = from_pipeline(pipeline, num_inference_steps=2, guidance_scale=3.0, scheduler=scheduler_name)
    images_of(backbone, [0])
    assert dict(pipeline.config) == config
    assert pipeline.components == parts
    assert repr(vars(pipeline.scheduler)) == scheduler
    assert backbone.denoiser is pipeline.unet
    assert not pipeline.unet.training
    assert not any(parameter.requires_grad for parameter in pipeline.unet.parameters())


def test_a_pipeline_goes_into_a_run_and_its_recipe_needs_it_again(tmp_path: Path) -> None:
    backbone = countgen.backbones.load("miniature")
    models = countgen.load(backbone.pipeline, num_inference_steps=1, guidance_scale=0.0, **DETECTORS)
    result = countgen.generate("two cats", models, method="plain", seed=3)
    assert result.recipe["changed_parts"] == ["pipeline"]
    assert torch.equal(regenerate(result.recipe, models.backbone), result.image)
    with pytest.raises(RecipeError, match="may not name by itself"):
        countgen.recipe.check(result.recipe)


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"device": "cpu"}, r"pipe.to\(device, dtype"),
        ({"dtype": torch.float16}, r"pipe.to\(device, dtype"),
        ({"revision": "x"}, "unknown option"),
        ({"model": {}}, "a name, a path or a diffusers pipeline, got dict"),
    ],
)
def test_what_a_loaded_pipeline_does_not_take_is_an_error(options: dict[str, Any], advice: str, pipeline: Any) -> None:
    with pytest.raises(ValueError, match=advice):
        countgen.load(**{"model": pipeline} | DETECTORS | options)
