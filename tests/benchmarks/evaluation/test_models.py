"""`countgen eval` loads and samples models as every command does; a run knows its weights and options."""

import json
import re
import shutil
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from countgen import miniature
from countgen.app.cli import main
from countgen.benchmarks.evaluation.generation import Generation
from countgen.benchmarks.evaluation.models import recorded_model, run_detectors
from countgen.benchmarks.evaluation.plan import cases, recorded
from countgen.benchmarks.evaluation.records import read_run
from countgen.benchmarks.evaluation.worker import Worker
from countgen.detector_choice import COCO, OPEN_VOCABULARY
from countgen.images import read_recipe
from countgen.number_slider.calibration import FOLDER as CALIBRATIONS
from tests.countgen.backbones.conftest import write_lora
from tests.faults.crash_consistency import settings

SDXL = miniature.FOLDER / "mini-sdxl-turbo"
COMMIT = "1" * 40
ASKED = {
    "--guidance-scale": "2",
    "--num-inference-steps": "2",
    "--scheduler": "DDIMScheduler",
    "--negative-prompt": "dogs",
    "--size": "64",
    "--memory": "low",
}


def test_a_run_of_a_folder_generates_as_asked_and_resumes_with_the_same_weights_and_options_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite, run = tmp_path / "mine.txt", tmp_path / "run"
    suite.write_text("two apples\n")
    folder, lora = shutil.copytree(SDXL, tmp_path / "mine"), write_lora(tmp_path)
    words = ["eval", "--suite", str(suite), "--methods", "plain", "--model", str(folder), "--device", "cpu", "--quiet"]
    words += ["--critic", "miniature-yolo", "--judge", "miniature-fcos", "--out", str(run), "--lora", f"{lora}:0.5"]
    words += [word for pair in ASKED.items() for word in pair]
    assert main(words) == main(words) == 0
    assert "1 were there before" in capsys.readouterr().out
    kept, (record,) = read_run(run)
    assert re.fullmatch(r"mine-[0-9a-f]{8}", record.backbone)
    assert kept["backbones"] == [record.backbone]
    assert str(tmp_path) not in json.dumps(kept | {"suite": ""})
    recipe = read_recipe(run / str(record.image))
    for name in ("guidance_scale", "num_inference_steps", "scheduler", "negative_prompt", "memory", "loras"):
        assert recipe[name] == kept[name]
    assert (recipe["width"], recipe["height"]) == (kept["width"], kept["height"]) == (64, 64)
    for name, other in (("--guidance-scale", "3"), ("--negative-prompt", "cats"), ("--lora", str(lora))):
        assert main([*words, name, other]) == 2
        assert f"{'loras' if name == '--lora' else name[2:].replace('-', '_')} (there" in capsys.readouterr().err
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes() + b"\1")
    assert recorded_model(str(folder))[0] != record.backbone


def test_what_a_model_does_by_itself_changes_no_settings_of_a_run() -> None:
    assert not {field.name for field in fields(Generation)} & recorded(settings(1)).keys()
    other = replace(settings(1), generation=Generation(dtype="bfloat16"))
    assert recorded(other)["dtype"] == "bfloat16"
    assert cases(other)[0].key != cases(settings(1))[0].key


def test_a_dtype_and_a_calibration_reach_the_model() -> None:
    generation = Generation(dtype="bfloat16", calibration=str(CALIBRATIONS / "miniature.json"))
    worker = Worker(replace(settings(1), generation=generation), "miniature")
    assert worker.models.backbone.dtype == torch.bfloat16
    assert generation.loaded_calibration is not None
    assert len(generation.recorded["calibration"]) == 16


def test_presets_keep_their_names_by_whatever_name_they_are_asked_for() -> None:
    assert recorded_model("sdxl-turbo") == ("sdxl-turbo", "sdxl-turbo")
    assert recorded_model("stabilityai/sdxl-turbo") == ("sdxl-turbo", "sdxl-turbo")
    assert recorded_model(str(SDXL)) == ("miniature", "miniature")
    assert recorded_model(f"sdxl-turbo@{COMMIT}") == (f"sdxl-turbo@{COMMIT}",) * 2


def test_a_repository_is_recorded_at_its_commit(hub_cache: Path) -> None:
    repository = hub_cache / "models--owner--fine-tune"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "v2").write_text(COMMIT)
    shutil.copytree(SDXL, repository / "snapshots" / COMMIT)
    assert recorded_model("owner/fine-tune@v2") == (f"owner/fine-tune@{COMMIT}",) * 2


def test_detectors_are_chosen_by_what_the_suite_counts(tmp_path: Path) -> None:
    suite = tmp_path / "mine.txt"
    suite.write_text("two apples\nthree dogs\n")
    critics, judges, chosen = run_detectors(("miniature", "sdxl-turbo"), str(suite), None, None)
    assert (critics, judges) == (COCO[0], (COCO[1],))
    assert "AGPL-3.0" in chosen
    suite.write_text("two apples\nthree unicorns\n")
    assert run_detectors(("sdxl-turbo",), str(suite), None, None)[:2] == (OPEN_VOCABULARY[0], (OPEN_VOCABULARY[1],))
    named = run_detectors(("sdxl-turbo",), str(suite), ["yolo:a.pt"], ["detr:b", "fcos:c"])
    assert named == (("yolo:a.pt",), ("detr:b", "fcos:c"), "")
