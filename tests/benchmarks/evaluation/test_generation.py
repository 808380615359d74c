"""`countgen eval` generates as it is asked to, and a run folder takes one way of generating."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from countgen.app.cli import main
from countgen.benchmarks.evaluation.generation import Generation
from countgen.benchmarks.evaluation.plan import cases, recorded
from countgen.benchmarks.evaluation.records import read_run
from countgen.benchmarks.evaluation.worker import Worker
from countgen.images import read_recipe
from countgen.number_slider.calibration import FOLDER as CALIBRATIONS
from tests.countgen.backbones.conftest import write_lora
from tests.faults.crash_consistency import settings

ASKED = {
    "--guidance-scale": "2",
    "--num-inference-steps": "2",
    "--scheduler": "DDIMScheduler",
    "--negative-prompt": "dogs",
    "--size": "64",
    "--memory": "low",
}


def test_a_run_generates_as_asked_and_does_not_go_on_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = tmp_path / "mine.txt"
    suite.write_text("two apples\n")
    lora = write_lora(tmp_path)
    words = ["eval", "--suite", str(suite), "--methods", "plain", "--judge", "miniature-fcos", "--quiet"]
    words += ["--device", "cpu", "--out", str(tmp_path / "run"), "--lora", f"{lora}:0.5"]
    words += [word for pair in ASKED.items() for word in pair]
    assert main(words) == main(words) == 0
    kept, (record,) = read_run(tmp_path / "run")
    recipe = read_recipe(tmp_path / "run" / str(record.image))
    for name in ("guidance_scale", "num_inference_steps", "scheduler", "negative_prompt", "memory", "loras"):
        assert recipe[name] == kept[name]
    assert (recipe["width"], recipe["height"]) == (kept["width"], kept["height"]) == (64, 64)
    assert str(tmp_path) not in json.dumps(kept["loras"])
    assert "1 were there before" in capsys.readouterr().out
    for name, other in (("--guidance-scale", "3"), ("--negative-prompt", "cats"), ("--lora", str(lora))):
        assert main([*words, name, other]) == 2
        assert f"{'loras' if name == '--lora' else name[2:].replace('-', '_')} (there" in capsys.readouterr().err


def test_what_a_model_does_by_itself_changes_no_settings_of_a_run() -> None:
    assert recorded(settings(1)) == recorded(replace(settings(1), generation=Generation()))
    assert not {field.name for field in fields(Generation)} & recorded(settings(1)).keys()
    other = replace(settings(1), generation=Generation(dtype="bfloat16"))
    assert recorded(other)["dtype"] == "bfloat16"
    assert cases(other)[0].key != cases(settings(1))[0].key


def test_a_dtype_and_a_calibration_reach_the_model() -> None:
    shipped = CALIBRATIONS / "miniature.json"
    generation = Generation(dtype="bfloat16", calibration=str(shipped))
    worker = Worker(replace(settings(1), generation=generation), "miniature")
    assert worker.models.backbone.dtype == torch.bfloat16
    assert generation.loaded_calibration is not None
    assert len(generation.recorded["calibration"]) == 16
