"""Sharpening of a one-step student, with few steps, on a CPU."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from countgen.miniature.training.export import export
from countgen.miniature.training.generator import FAMILIES, LATENT_SHAPE, Conditioning, Generator, read_generator
from countgen.miniature.training.loop import StageSettings
from countgen.miniature.training.ode import integrate
from countgen.miniature.training.sharpen import Targets, later_step, pixart_sharpen, sharpen
from torch import Tensor

pytestmark = pytest.mark.filterwarnings(
    # diffusers and numpy 2: an __array__ without the copy keyword, in the solver's set_timesteps.
    "ignore:__array__ implementation doesn.t accept a copy keyword:DeprecationWarning"
)

UNET = FAMILIES["unet"]


@pytest.fixture(scope="module")
def shipped() -> tuple[Generator, torch.nn.Module]:
    """The shipped student, which stands for a teacher too, and its VAE."""
    return read_generator(UNET, UNET.folder)


def test_a_resumed_stage_changes_the_denoiser_and_no_text_encoder(
    shipped: tuple[Generator, torch.nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("countgen.miniature.training.sharpen.FIRST_TARGETS", 2)
    monkeypatch.setattr("countgen.miniature.training.sharpen.STEPS", 1)
    export(*shipped, tmp_path / "teacher", one_step=False)
    out = tmp_path / "run"
    settings = StageSettings(out=out, data=tmp_path / "teacher", iterations=1, batch_size=8, stage="sharpen")
    sharpen(settings)
    sharpen(dataclasses.replace(settings, iterations=3))
    log = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert (log[0]["iteration"], log[-1]["iteration"]) == (1, 3)
    assert [record["iteration"] for record in log if "later_step" in record] == [3]
    assert log[-1]["later_step"] > 0
    assert log[-1]["later_features"] > 0
    assert all(record["targets"] >= 2 and 0 < record["latents"] < 1 for record in log[:-1])
    trained, _ = read_generator(UNET, out / "pipeline")
    for part, same in (("text_encoders", True), ("denoiser", False)):
        after, before = (dict(getattr(model, part).named_parameters()) for model in (trained, shipped[0]))
        assert all(torch.equal(after[name], before[name]) for name in before) is same


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        (None, "give --data, its pipeline folder"),
        (FAMILIES["pixart"].folder, "is no multi-step teacher"),
        (UNET.folder, "has no transformer: give a folder of the pixart family"),
    ],
    ids=["none", "one step", "another family"],
)
def test_sharpening_without_a_teacher_is_refused(folder: Path | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        pixart_sharpen(StageSettings(out=tmp_path, data=folder, iterations=1))


def test_a_teacher_of_another_student_ends_with_an_error(
    shipped: tuple[Generator, torch.nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("countgen.miniature.training.sharpen.FIRST_TARGETS", 2)
    monkeypatch.setattr(Targets, "add", lambda targets: None)
    with pytest.raises(ValueError, match="only 0 images have a clear and right count"):
        Targets(shipped[0], shipped[0], shipped[1], 8, seed=0).fill()


def test_images_with_a_wrong_or_unclear_count_are_no_targets(
    shipped: tuple[Generator, torch.nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("countgen.miniature.training.sharpen.STEPS", 1)
    targets = Targets(shipped[0], shipped[0], shipped[1], 24, seed=0)
    targets.add()
    assert 0 < len(targets) < 24
    assert len(targets) == round(24 * targets.kept)
    noise, latents, tokens = targets.draw(3)
    assert noise.shape == latents.shape == (3, *LATENT_SHAPE)
    assert tokens.shape == (3, 2, 32)


def test_the_ode_can_start_from_clean_latents(shipped: tuple[Generator, torch.nn.Module]) -> None:
    generator, _ = shipped
    tokens = generator.tokenize(["a photo of five cats", "two apples and three dogs on a table"])
    noise = torch.randn(2, *LATENT_SHAPE, generator=torch.Generator().manual_seed(0))
    clean = generator.one_step(noise, generator.encode(tokens)).detach()
    near, far = (
        integrate(generator, noise, tokens, steps=2, guidance_scale=1.0, start=(clean, first)) for first in (20, 900)
    )
    assert (near - clean).abs().mean() < 0.5 * (far - clean).abs().mean()


def test_a_later_step_denoises_the_students_own_image_noised_anew(
    shipped: tuple[Generator, torch.nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator, _ = shipped
    tokens = generator.tokenize(["a photo of five cats"] * 8)
    noise = torch.randn(8, *LATENT_SHAPE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        own = generator.one_step(noise, generator.encode(tokens))
    seen, predict = [], generator.predict

    def watched(latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        seen.append((latents, timesteps, torch.is_grad_enabled()))
        return predict(latents, timesteps, conditioning)

    monkeypatch.setattr(generator, "predict", watched)
    torch.manual_seed(0)
    latents = later_step(generator, noise, tokens)
    (_, first, first_with_gradient), (noised, later, later_with_gradient) = seen
    assert first.tolist() == [UNET.one_step_timestep] * 8
    assert (first_with_gradient, later_with_gradient) == (False, True)
    assert min(UNET.denoising_timesteps) <= later.min() < later.max() <= max(UNET.denoising_timesteps)
    alpha = generator.alphas_cumprod[later].view(-1, 1, 1, 1)
    added = (noised - alpha.sqrt() * own) / (1 - alpha).sqrt()
    assert added.std() == pytest.approx(1, abs=0.02)
    assert (added * noise).mean() == pytest.approx(0, abs=0.02)
    assert (latents - own).abs().mean() < 0.5 * own.abs().mean()


def test_clean_latents_follow_from_the_v_prediction(
    shipped: tuple[Generator, torch.nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator, _ = shipped
    clean, noise = torch.randn(2, 3, *LATENT_SHAPE, generator=torch.Generator().manual_seed(0))
    timesteps = torch.tensor([0, 500, 999])
    noised, target = generator.add_noise(clean, noise, timesteps)
    monkeypatch.setattr(generator, "predict", lambda latents, timesteps, conditioning: target)
    conditioning = generator.encode(generator.tokenize([""]))
    torch.testing.assert_close(generator.denoise(noised, timesteps, conditioning), clean, atol=1e-4, rtol=1e-4)
