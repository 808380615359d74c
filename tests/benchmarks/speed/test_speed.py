"""The loops take the same step where they are the same arithmetic, and the command prints their times."""

import importlib
from dataclasses import replace
from itertools import islice

import pytest
import torch

import countgen
from countgen.backbones import Preset, PromptEmbeds
from countgen.benchmarks.speed import __main__ as speed
from countgen.benchmarks.speed import random_weights, right_images
from countgen.benchmarks.speed.__main__ import Turn
from countgen.benchmarks.speed.loops import SETTINGS, Task, bare_loop, countgen_loop, reno_loop
from tests.countgen.backbones.conftest import tiny

RENO = replace(SETTINGS, optimizer="sgd", learning_rate=5.0, max_grad_norm=0.1)
PARAMETERS = {
    "sdxl-turbo": {
        "unet": 2_567_463_684,
        "vae": 83_653_863,
        "text_encoder": 123_060_480,
        "text_encoder_2": 694_659_840,
    },
    "sd-turbo": {"unet": 865_910_724, "vae": 83_653_863, "text_encoder": 340_387_840},
    "pixart-dmd": {"transformer": 610_856_096, "vae": 83_653_863, "text_encoder": 4_762_310_656},
}
"""Numbers of parameters of the published models."""


def assert_same_steps(task: Task) -> None:
    for ours, other in ((countgen_loop(task), bare_loop(task)), (countgen_loop(task, RENO), reno_loop(task))):
        start, moved = islice(ours, 2)
        other_start, other_moved = islice(other, 2)
        assert torch.equal(start, other_start)
        assert (moved - start).abs().max() > 0.01
        torch.testing.assert_close(moved, other_moved, atol=1e-5, rtol=0)
        other.close()
    denoiser, vae = task.backbone.denoiser, task.backbone.pipeline.vae
    assert not denoiser.is_gradient_checkpointing
    assert not vae.is_gradient_checkpointing


def test_the_loops_take_the_same_first_step_with_the_same_optimizer(models: countgen.Models) -> None:
    assert_same_steps(Task(models.backbone, models.critics))


@pytest.mark.parametrize("name", ["stable_diffusion", "stable_diffusion_xl lcm", "pixart one step"])
def test_every_family_takes_the_same_first_step(name: str, models: countgen.Models) -> None:
    timesteps = None if name == "stable_diffusion" else (400,)
    preset = Preset("tiny", 1, 0.0, 32, 64, "none", timesteps=timesteps)
    family = importlib.import_module(f"countgen.backbones.{name.split()[0]}")
    assert_same_steps(Task(family.BACKBONE(tiny(name), preset, name), models.critics[:1]))


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_model_with_random_weights_has_the_published_architecture(name: str) -> None:
    backbone = random_weights.build(name, torch.device("meta"))
    components = backbone.pipeline.components
    for part, number in PARAMETERS[name].items():
        assert sum(parameter.numel() for parameter in components[part].parameters()) == number
    with torch.no_grad():
        if name == "pixart-dmd":  # T5 reads its attention mask, and tensors on the meta device hold no values
            embeds = torch.empty(1, 120, 4096, device="meta", dtype=backbone.dtype)
            conditions = PromptEmbeds(embeds, attention_mask=torch.ones(1, 120, device="meta"))
        else:
            conditions = backbone.encode_prompt("a photo of apples")
        images = backbone.render(torch.empty(1, *backbone.latent_shape, device="meta"), conditions)
    assert images.shape == (1, 3, 512, 512)


def test_a_ratio_is_the_median_over_rounds_and_the_peak_the_largest() -> None:
    # The machine is ten times slower in the last round.
    turns = {"countgen": [1.0, 1.0, 10.0], "bare diffusers loop": [1.5, 2.0, 20.0]}
    lines = speed.table({name: [Turn(each, int(each * 2**30)) for each in own] for name, own in turns.items()})
    assert lines[2:] == [
        "| countgen | 1.0000 | 1.0000-10.0000 | 1.00 | 10.00 | 3 |",
        "| bare diffusers loop | 2.0000 | 1.5000-20.0000 | 2.00 | 20.00 | 3 |",
    ]


def test_the_command_prints_a_row_for_each_loop(capsys: pytest.CaptureFixture[str]) -> None:
    assert speed.main(["--device", "cpu", "--rounds", "1", "--iterations", "1"]) == 0
    title, _, header, _, *rows = capsys.readouterr().out.splitlines()
    assert title.startswith("miniature, 128x128, torch.float32, miniature-yolo, miniature-heatmap; ")
    assert title.endswith("peak of the resident memory of the process")
    assert [row.split(" | ")[0] for row in rows] == ["| countgen", "| bare diffusers loop", "| ReNO's loop"]
    for row in rows:
        assert row.count("|") == header.count("|")
        _, seconds, _, ratio, peak, nfe = row.strip("| ").split(" | ")
        assert min(map(float, (seconds, ratio, peak, nfe))) > 0


def test_right_images_has_a_row_for_each_method(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {name: options for name, options in right_images.ARMS.items() if "0.9" not in name}
    few = {name: replace(options, max_evaluations=4) for name, options in few.items()}
    monkeypatch.setattr(right_images, "ARMS", few)
    assert speed.main(["--device", "cpu", "--right-images", "1"]) == 0
    title, _, header, _, *rows = capsys.readouterr().out.splitlines()
    assert title.startswith("miniature, 1 prompts, counts 1-12 in turn, seeds from 0, ")
    assert [row.strip("| ").split(" | ")[0] for row in rows] == list(right_images.ARMS)
    for row in rows:
        assert row.count("|") == header.count("|")
        assert float(row.strip("| ").split(" | ")[2]) > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--right-images", "0"], "--right-images takes 1 prompt or more, and --model one of miniature, "),
        (["--model", "foo"], "--model 'foo' is not one of miniature, miniature-pixart, sdxl-turbo, "),
        (["--random-weights"], "--model 'miniature' is not one of sdxl-turbo, "),
        (["--device", "cuda:99"], "--device 'cuda:99' cannot be used: "),
        (["--rounds", "0"], "--rounds and --iterations must be at least 1"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert speed.main(arguments) == 2
    output = capsys.readouterr()
    assert output.err.startswith(f"python -m countgen.benchmarks.speed: {message}")
    assert (output.err.count("\n"), output.out) == (1, "")
