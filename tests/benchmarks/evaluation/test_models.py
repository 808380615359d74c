"""`countgen eval --model` takes what the other commands take, and a run knows which weights it is of."""

import json
import re
import shutil
from pathlib import Path

import pytest

from countgen import miniature
from countgen.app.cli import main
from countgen.benchmarks.evaluation.models import recorded_model, run_detectors
from countgen.detector_choice import COCO, OPEN_VOCABULARY

SDXL = miniature.FOLDER / "mini-sdxl-turbo"
COMMIT = "1" * 40


def test_a_run_of_a_folder_resumes_reports_and_names_its_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = tmp_path / "mine.txt"
    suite.write_text("two apples\n")
    folder = shutil.copytree(SDXL, tmp_path / "mine")
    words = ["eval", "--suite", str(suite), "--methods", "plain", "--model", str(folder), "--device", "cpu"]
    words += ["--critic", "miniature-yolo", "--judge", "miniature-fcos", "--out", str(tmp_path / "run")]
    assert main([*words, "--quiet"]) == main([*words, "--quiet"]) == 0
    assert "1 were there before" in capsys.readouterr().out
    kept = (tmp_path / "run" / "settings.json").read_text()
    (name,) = json.loads(kept)["backbones"]
    assert re.fullmatch(r"mine-[0-9a-f]{8}", name)
    assert str(tmp_path) not in kept.replace(str(suite), "")
    assert main(["report", str(tmp_path / "run")]) == 0
    assert name in capsys.readouterr().out
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes() + b"\1")
    assert recorded_model(str(folder))[0] != name


def test_presets_keep_their_names_by_whatever_name_they_are_asked_for() -> None:
    assert recorded_model("sdxl-turbo") == ("sdxl-turbo", "sdxl-turbo")
    assert recorded_model("stabilityai/sdxl-turbo") == ("sdxl-turbo", "sdxl-turbo")
    assert recorded_model(str(SDXL)) == ("miniature", "miniature")
    assert recorded_model(f"sdxl-turbo@{COMMIT}") == (f"sdxl-turbo@{COMMIT}",) * 2
    with pytest.raises(ValueError, match="did you mean miniature"):
        recorded_model("minature")


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
    assert run_detectors(("miniature",), str(suite), None, None)[0] == miniature.CRITICS
