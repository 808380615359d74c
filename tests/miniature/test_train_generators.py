"""Training stages of the generators, with few steps, on a CPU."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from countgen.miniature.training.__main__ import STAGES, main
from countgen.miniature.training.export import export, export_vae
from countgen.miniature.training.generator import FAMILIES, MINIATURE, decode, encode_images, read_generator
from countgen.miniature.training.initial_weights import fresh_generator
from countgen.miniature.training.loop import RANDOM, StageSettings, adamw, learning_rate_factor, train
from countgen.miniature.training.ode import integrate
from countgen.miniature.training.pairs import pairs, pixart_pairs, read_pairs, right_counts, shards, write_shard
from countgen.miniature.training.scenes import UNSPECIFIED, sample_captioned
from countgen.miniature.training.score import evaluation_prompts, score
from countgen.miniature.training.student import pixart_student, student
from countgen.miniature.training.teacher import pixart_teacher, teacher
from torch import nn

from countgen.miniature.world import HELD_OUT_OBJECTS, OBJECT_NAMES

pytestmark = pytest.mark.filterwarnings(
    # diffusers and numpy 2: an __array__ without the copy keyword, in the solver's set_timesteps.
    "ignore:__array__ implementation doesn.t accept a copy keyword:DeprecationWarning"
)

PROMPTS = ["a photo of five cats", "two apples and three dogs on a table"]


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def line_fit(out: Path, iterations: int, seed: int = 0) -> tuple[int, nn.Linear, list[int]]:
    """Fit a line with the training loop, and return the last iteration, the model and the iterations of this run."""
    torch.manual_seed(seed)
    model = nn.Linear(1, 1)
    optimizer = adamw([(model, 0.05)])
    seen: list[int] = []

    def step(iteration: int, progress: float) -> dict[str, float]:
        seen.append(iteration)
        x = torch.randn(16, 1)
        loss = (model(x) - 3 * x - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return {"loss": float(loss.detach())}

    settings = StageSettings(out=out, iterations=iterations, seed=seed)
    return train(settings, {"model": model}, [optimizer], step), model, seen


def test_resume_continues_at_the_iteration_and_weights_of_the_checkpoint(tmp_path: Path) -> None:
    _, first, _ = line_fit(tmp_path, 5)
    reached, second, seen = line_fit(tmp_path, 8)
    assert reached == 8
    assert seen == [5, 6, 7]
    assert abs(float(second.weight.detach() - first.weight.detach())) < 8 * 0.05
    assert line_fit(tmp_path, 8)[2] == []


def test_same_seed_gives_the_same_losses_and_another_seed_does_not(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        line_fit(tmp_path / name, 3, seed)
    a, b, c = (metrics(tmp_path / name)[0]["loss"] for name in "abc")
    assert a == b != c


def test_a_folder_started_with_another_seed_is_not_resumed(tmp_path: Path) -> None:
    line_fit(tmp_path, 2, seed=1)
    with pytest.raises(ValueError, match=r"was started with seed 1, got seed 2; .* another --out"):
        line_fit(tmp_path, 4, seed=2)


def test_an_interrupted_run_resumes_and_logs_nothing_twice(tmp_path: Path) -> None:
    settings = StageSettings(out=tmp_path, iterations=4)
    model = nn.Linear(1, 1)

    def interrupted(iteration: int, progress: float) -> dict[str, float]:
        if iteration == 3:
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        train(settings, {"model": model}, [], interrupted)
    with (tmp_path / "metrics.jsonl").open("a") as log:
        log.write('{"iteration": 4, "seconds": 1.0}\n{"itera')  # log entries of a killed run after its checkpoint
    seen: list[int] = []
    train(settings, {"model": model}, [], lambda iteration, progress: seen.append(iteration) or {})  # type: ignore[func-returns-value]
    assert seen == [3]
    assert [record["iteration"] for record in metrics(tmp_path)] == [1, 4]


def test_a_damaged_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"checkpoint.safetensors is damaged"):
        line_fit(tmp_path, 2)


def test_a_stage_without_a_budget_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--seconds"):
        train(StageSettings(out=tmp_path), {}, [], lambda iteration, progress: {})


OUT_OF_RANGE = [
    {"seconds": 0.0},
    {"iterations": 0},
    {"batch_size": 0},
    {"number": 0},
    {"learning_rate": 0.0},
    {"device": "abacus"},
]


def test_settings_out_of_range_are_refused(subtests: pytest.Subtests, tmp_path: Path) -> None:
    for wrong in OUT_OF_RANGE:
        with subtests.test(wrong=wrong), pytest.raises(ValueError, match="give"):
            StageSettings(out=tmp_path, **wrong)


def test_learning_rate_warms_up_and_then_decays_to_its_floor() -> None:
    assert learning_rate_factor(0.0, 0) == pytest.approx(0.01)
    assert learning_rate_factor(0.0, 100) == 1.0
    assert learning_rate_factor(1.0, 1000) == pytest.approx(0.02)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_one_step_equals_the_stock_pipeline_loaded_from_an_export(family, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from diffusers import PixArtAlphaPipeline, StableDiffusionXLPipeline

    generator, autoencoder = read_generator(family, family.folder)
    export(generator, autoencoder, tmp_path, one_step=True)
    unet = family.name == "unet"
    stock = StableDiffusionXLPipeline if unet else PixArtAlphaPipeline
    pipeline = stock.from_pretrained(tmp_path, use_safetensors=True, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(2, 4, 32, 32, generator=torch.Generator().manual_seed(3))
    options = (
        {"guidance_scale": 0.0}
        if unet
        else {"guidance_scale": 1.0, "timesteps": [400], "use_resolution_binning": False, "clean_caption": False}
    )
    expected = pipeline(
        PROMPTS, latents=noise, num_inference_steps=1, height=128, width=128, output_type="pt", **options
    ).images
    with torch.no_grad():
        latents = generator.eval().one_step(noise, generator.encode(generator.tokenize(PROMPTS)))
        images = decode(autoencoder, latents).clamp(0, 1)
    torch.testing.assert_close(images, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_discriminator_features_carry_gradient_to_the_latents(family) -> None:  # type: ignore[no-untyped-def]
    generator, _ = read_generator(family, family.folder)
    latents = torch.randn(2, 4, 32, 32, requires_grad=True)
    conditioning = generator.encode(generator.tokenize(PROMPTS))
    features = generator.features(latents, torch.tensor([100, 500]), conditioning)
    assert len(features) >= 3
    assert all(feature.ndim == 4 for feature in features)
    (gradient,) = torch.autograd.grad(torch.stack([f.square().mean() for f in features]).sum(), latents)
    assert gradient.isfinite().all()
    assert gradient.abs().amax((1, 2, 3)).min() > 0


def test_the_solver_is_deterministic_and_finite() -> None:
    family = FAMILIES["pixart"]
    generator, _ = read_generator(family, family.folder)
    noise = torch.randn(2, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    tokens = generator.tokenize(PROMPTS)
    latents = integrate(generator.eval(), noise, tokens, steps=3, guidance_scale=1.0)
    again = integrate(generator, noise, tokens, steps=3, guidance_scale=1.0)
    assert latents.isfinite().all()
    assert torch.equal(latents, again)


def test_encoded_images_decode_to_the_images() -> None:
    from countgen.miniature.world import load_sprites, render

    _, autoencoder = read_generator(FAMILIES["unet"], FAMILIES["unet"].folder)
    scenes, _, _ = sample_captioned(4, np.random.default_rng(0))
    images = render(scenes, load_sprites(), torch.Generator().manual_seed(0)).images
    with torch.no_grad():
        restored = decode(autoencoder, encode_images(autoencoder, images))
    assert (restored - images).square().mean() < 10**-2.6


def test_target_counts_are_those_that_the_caption_states() -> None:
    scenes, captions, targets = sample_captioned(300, np.random.default_rng(0))
    for scene, text, row in zip(scenes, captions, targets, strict=True):
        held_out = [OBJECT_NAMES.index(name) for name in HELD_OUT_OBJECTS]
        assert (row[held_out] <= 0).all()
        assert all(row[kind] in (count, UNSPECIFIED) for kind, count in scene.groups)
        if any(character.isdigit() for character in text):
            assert (row > 0).any()


def test_pairs_with_wrong_or_additional_objects_are_rejected() -> None:
    targets = torch.tensor([[2, 0, UNSPECIFIED]] * 4)
    counts = torch.tensor([[2, 0, 7], [1, 0, 7], [2, 1, 0], [2, 0, 0]])
    assert right_counts(targets, counts).tolist() == [True, False, False, True]


@pytest.fixture(scope="module")
def unet_pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished run of pairs; of few steps, because the one-step student is the teacher."""
    folder = tmp_path_factory.mktemp("pairs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES, "unet", dataclasses.replace(FAMILIES["unet"], ode_steps=2))
        pairs(StageSettings(out=folder, init=FAMILIES["unet"].folder, number=2, batch_size=4))
        yield folder


def test_pairs_are_written_with_their_teacher_and_a_finished_run_adds_none(unet_pairs: Path) -> None:
    before = [path.read_bytes() for path in shards(unet_pairs)]
    pairs(StageSettings(out=unet_pairs, number=2, batch_size=4))
    assert [path.read_bytes() for path in shards(unet_pairs)] == before
    generator, _ = read_generator(FAMILIES["unet"], unet_pairs / "teacher")
    noise, latents, tokens = read_pairs(unet_pairs, generator, "cpu")
    assert len(noise) == len(latents) == len(tokens) >= 2
    assert noise.dtype == latents.dtype == torch.float16
    assert (unet_pairs / "sample-00000.png").is_file()
    assert metrics(unet_pairs)[-1]["pairs"] == len(noise)


def test_the_first_run_of_pairs_needs_a_teacher_and_later_runs_accept_no_other(
    unet_pairs: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="give --init"):
        pairs(StageSettings(out=tmp_path, number=2))
    with pytest.raises(ValueError, match=r"was started with init .*mini-sdxl-turbo, got init "):
        pairs(StageSettings(out=unet_pairs, init=tmp_path, number=9))


def test_a_budget_of_time_or_batches_limits_the_sum_over_runs_of_pairs(
    unet_pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = metrics(unet_pairs)
    pairs(StageSettings(out=unet_pairs, number=1000, seconds=earlier[-1]["seconds"]))
    assert "is finished" in capsys.readouterr().out
    more = StageSettings(out=unet_pairs, number=1000, iterations=len(earlier) + 1, batch_size=4)
    pairs(more)
    assert len(metrics(unet_pairs)) == len(earlier) + 1
    pairs(more)
    assert f"{len(earlier) + 1} batches" in capsys.readouterr().out
    assert len(metrics(unet_pairs)) == len(earlier) + 1


def test_pixart_pairs_have_the_mask_of_their_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_targets(number: int, rng: np.random.Generator) -> tuple[Any, list[str], np.ndarray]:
        scenes, captions, targets = sample_captioned(number, rng)
        return scenes, captions, np.full_like(targets, UNSPECIFIED)

    # The one-step student is no good teacher, so that its images are not filtered by count.
    family = dataclasses.replace(FAMILIES["pixart"], ode_steps=2)
    monkeypatch.setitem(FAMILIES, "pixart", family)
    monkeypatch.setattr("countgen.miniature.training.pairs.sample_captioned", without_targets)
    pixart_pairs(StageSettings(out=tmp_path, init=family.folder, number=2, batch_size=2))
    generator, _ = read_generator(family, tmp_path / "teacher")
    noise, latents, tokens = read_pairs(tmp_path, generator, "cpu")
    assert len(noise) == len(tokens) == 2
    assert latents.isfinite().all()
    assert set(tokens[:, 1].unique().tolist()) == {0, 1}


def test_student_stage_computes_all_losses_and_exports_a_pipeline(unet_pairs: Path, tmp_path: Path) -> None:
    student(StageSettings(out=tmp_path, data=unet_pairs, iterations=5, batch_size=2, number=4))
    assert {"latents", "pixels", "features", "discriminator", "fooled"} <= set(metrics(tmp_path)[-1])
    generator, _ = read_generator(FAMILIES["unet"], tmp_path / "pipeline")
    assert all(parameter.isfinite().all() for parameter in generator.parameters())
    assert list(tmp_path.glob("sample-*.png"))


def test_pixart_student_stage_starts_from_given_weights(tmp_path: Path) -> None:
    family = FAMILIES["pixart"]
    generator, autoencoder = read_generator(family, family.folder)
    data = tmp_path / "pairs"
    export(generator, autoencoder, data / "teacher", one_step=False)
    write_shard(data, 0, torch.randn(4, 4, 32, 32).half(), torch.randn(4, 4, 32, 32).half(), PROMPTS * 2)
    out = tmp_path / "run"
    pixart_student(StageSettings(out=out, data=data, init=family.folder, iterations=3, batch_size=2, number=4))
    trained, _ = read_generator(family, out / "pipeline")
    changes = [(a - b).abs().max() for a, b in zip(trained.parameters(), generator.parameters(), strict=True)]
    assert 0 < max(float(value.detach()) for value in changes) < 0.05


def test_teacher_stage_resumes_and_exports(tmp_path: Path) -> None:
    settings = StageSettings(out=tmp_path, iterations=1, batch_size=1, number=2)
    teacher(settings)
    teacher(dataclasses.replace(settings, iterations=2))
    assert [record["iteration"] for record in metrics(tmp_path)] == [1, 2]
    assert "DPMSolver" in (tmp_path / "pipeline" / "scheduler" / "scheduler_config.json").read_text()


@pytest.mark.parametrize("stage", [teacher, pixart_teacher], ids=FAMILIES)
def test_a_teacher_starts_from_random_weights_and_another_vae(
    stage: Callable[[StageSettings], None], tmp_path: Path
) -> None:
    family = FAMILIES["unet" if stage is teacher else "pixart"]
    shipped, autoencoder = read_generator(family, family.folder)
    export_vae(autoencoder, 0.5, tmp_path / "vae")
    out = tmp_path / "run"
    stage(StageSettings(out=out, init=RANDOM, data=tmp_path / "vae", iterations=1, batch_size=1, number=1))
    trained, its_vae = read_generator(family, out / "pipeline")
    spreads = [(a - b).std() for a, b in zip(trained.parameters(), shipped.parameters(), strict=True) if a.ndim > 1]
    assert min(float(value.detach()) for value in spreads) > 0.005
    assert its_vae.config.scaling_factor == 0.5


def test_initial_pixart_predicts_zero_and_depends_on_the_seed() -> None:
    generators = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        generator, _ = fresh_generator(FAMILIES["pixart"])
        generators.append(generator)
    once, again, other = (generator.denoiser.transformer_blocks[0].attn1.to_q.weight for generator in generators)
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    # Xavier's uniform bound, sqrt(6 / (inputs + outputs)).
    assert float(once.detach().abs().max()) == pytest.approx((6 / sum(once.shape)) ** 0.5, rel=1e-3)
    with torch.no_grad():
        conditioning = generators[0].encode(generators[0].tokenize(PROMPTS))
        predicted = generators[0].predict(torch.randn(2, 4, 32, 32), torch.tensor([100, 500]), conditioning)
    assert not predicted.any()


def test_an_export_has_no_local_path_and_replaces_links(tmp_path: Path) -> None:
    family = FAMILIES["pixart"]
    generator, autoencoder = read_generator(family, family.folder)
    export_vae(autoencoder, 0.5, tmp_path / "vae")
    before = {path.name: path.read_bytes() for path in (tmp_path / "vae").iterdir()}
    (tmp_path / "pipeline" / "vae").mkdir(parents=True)
    for name in before:
        (tmp_path / "pipeline" / "vae" / name).symlink_to(tmp_path / "vae" / name)
    export(generator, autoencoder, tmp_path / "pipeline", one_step=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "vae").iterdir()} == before
    assert read_generator(family, tmp_path / "pipeline")[1].config.scaling_factor != 0.5
    for config in tmp_path.rglob("*.json"):
        assert "_name_or_path" not in config.read_text()


def test_vae_stage_trains_by_command_and_a_finished_run_is_not_repeated(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = ["vae", "--device", "cpu", "--iterations", "2", "--batch-size", "2", "--number", "8"]
    command += ["--out", str(tmp_path)]
    main(command)
    main(command)
    assert "is finished: 2 iterations" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*command, "--seed", "1"])
    assert "was started with seed 0" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*command, "--out", str(tmp_path / "other"), "--init", str(tmp_path / "nowhere")])
    assert "not the folder of an autoencoder" in capsys.readouterr().err
    scaling = json.loads((tmp_path / "vae" / "config.json").read_text())["scaling_factor"]
    assert scaling > 0
    assert metrics(tmp_path)[-1]["iteration"] == 2


def test_score_has_all_counts_and_is_reproducible() -> None:
    from countgen.critics.detectors import fcos
    from countgen.miniature import FOLDER

    rows = evaluation_prompts(60, seed=1)
    assert sorted({count for _, _, count in rows}) == list(range(1, 16))
    judge = fcos.load(weights=FOLDER / "judge" / "model.safetensors")
    once = score(FAMILIES["unet"].folder, judge, prompts=15, seed=0)
    assert once == score(FAMILIES["unet"].folder, judge, prompts=15, seed=0)
    assert 0 <= once["overall"] <= 100  # type: ignore[operator]


def test_command_line_names_its_stages_and_refuses_in_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["student", "--device", "cpu", "--iterations", "1", "--out", str(tmp_path)])
    assert stop.value.code == 2
    assert "--data" in capsys.readouterr().err
    assert {"vae", "teacher", "pairs", "student", "pixart-student"} <= set(STAGES)


@pytest.mark.parametrize(("block", "seconds"), [(0, 1230), (1, 2760)])
def test_the_documented_training_times_add_up(block: int, seconds: int) -> None:
    text = (MINIATURE / "README.md").read_text(encoding="utf-8").partition("## Training everything again")[2]
    commands = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)[block]
    lines = [line.split()[1:] for line in commands.splitlines() if line.startswith("$T")]
    assert {line[0] for line in lines} == set(STAGES) - {"vae", "sharpen", "pixart-sharpen"}
    assert sum(int(line[line.index("--seconds") + 1]) for line in lines) == seconds
    assert f"{seconds} seconds" in text
    if block == 0:
        assert seconds < 25 * 60
