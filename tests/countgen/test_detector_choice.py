"""Detectors are chosen by what is counted, and their files are looked for before a large model is loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import get_model

import countgen
from countgen import miniature
from countgen.critics.catalogue import FACTS
from countgen.critics.detectors.grounding_dino import PRESETS as GROUNDING_DINO
from countgen.critics.detectors.owl import PRESETS as OWL
from countgen.detector_choice import COCO, OPEN_VOCABULARY, choose
from countgen.models import check_detectors, load_critic
from tests.contract import tiny_detectors


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        (["apple"], COCO),
        (["kitten", "dogs"], COCO),
        (["hair dryer"], COCO),
        (["unicorn"], OPEN_VOCABULARY),
        (["dog", "unicorn"], OPEN_VOCABULARY),
        ([], COCO),
    ],
)
def test_objects_decide(objects: list[str], expected: tuple[tuple[str, ...], str]) -> None:
    choice = choose("sdxl-turbo", objects)
    assert (choice.critics, choice.judge) == expected
    assert choice.because
    for name in choice.names:
        assert f"{name} [{FACTS[name].licence}, {FACTS[name].megabytes} MB]" in choice.described


def test_what_the_user_names_is_kept() -> None:
    assert choose("sdxl-turbo", ["apple"], ["nanodet"]).critics == ("nanodet",)
    assert choose("sdxl-turbo", ["apple"], judge="nanodet").judge == "nanodet"
    assert choose("sdxl-turbo", ["apple"], ["nanodet"], "detr:rtdetr-r50").because == ""
    assert choose("miniature", ["apple"]).judge == "miniature-fcos"
    assert choose("miniature", ["apple"], judge=None).names == choose("miniature", ["apple"]).critics
    with pytest.raises(ValueError, match="is also a critic"):
        choose("sdxl-turbo", ["apple"], judge="yolo:yolo11m")


def test_missing_files_are_named_before_a_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("countgen.backbones.load", None)
    with pytest.raises(FileNotFoundError) as refused:
        countgen.load("sdxl-turbo", objects=["unicorn"])
    for words in ("owl:owlv2-base (620 MB) from google/owlv2", "tiny (690 MB)", "(or write owl:FOLDER)"):
        assert words in str(refused.value)
    with pytest.raises(FileNotFoundError, match=r"Ultralytics/YOLO11/yolo11m\.pt.*fasterrcnn.*\.pth.*FILE"):
        countgen.load("sdxl-turbo", objects=["apple"])


def test_what_is_in_the_hubs_cache_is_found(hub_snapshot: Callable[..., Path], tmp_path: Path) -> None:
    (hub_snapshot(*OWL["owlv2-base"].split("@")) / "model.safetensors").touch()
    (hub_snapshot("Ultralytics/YOLO11") / "yolo11m.pt").touch()
    assert check_detectors(["owl:owlv2-base", "yolo:yolo11m"]) == ()
    (tmp_path / "mine.pt").touch()
    assert check_detectors([f"yolo:{tmp_path / 'mine.pt'}", f"owl:{tmp_path}", "nanodet", "miniature-yolo"]) == ()


@pytest.mark.filterwarnings("ignore")  # those of the libraries
def test_a_noun_that_is_no_class_runs_offline_with_what_the_cache_holds(hub_snapshot: Callable[..., Path]) -> None:
    for preset, critic in (
        (OWL["owlv2-base"], tiny_detectors.owl("owlv2")),
        (GROUNDING_DINO["tiny"], tiny_detectors.grounding_dino()),
    ):
        for part in ("model", "image_processor", "tokenizer"):
            getattr(critic, part).save_pretrained(hub_snapshot(*preset.split("@")))
    shutil.copytree(miniature.FOLDER / "mini-sdxl-turbo", hub_snapshot("owner/fine-tune"), dirs_exist_ok=True)
    models = countgen.load("owner/fine-tune", objects=["unicorn"], num_inference_steps=1, device="cpu")
    result = countgen.generate("two unicorns", models, method="plain")
    assert [models.critics[0].name, models.required_judge.name] == ["owl:owlv2-base", "grounding_dino:tiny"]
    assert result.recipe["detectors_chosen"] == "'unicorn' is not a COCO class"
    assert len(result.judge_counts) == 1


NAMES = ["__background__", "apple", "dog"]


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_torchvision_detector_is_read_from_a_file_with_its_classes(suffix: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    stock = get_model("ssdlite320_mobilenet_v3_large", weights=None, weights_backbone=None, num_classes=len(NAMES))
    path = tmp_path / f"mine{suffix}"
    if suffix == ".pth":
        torch.save(stock.state_dict(), path)
        path.with_suffix(".txt").write_text("\n".join(NAMES))
    else:
        save_file(stock.state_dict(), path, metadata={"object_names": json.dumps(NAMES)})
    critic = load_critic(f"torchvision:ssdlite320_mobilenet_v3_large@{path}")
    assert critic.object_names == ("apple", "dog")
    assert critic.name.startswith("torchvision:mine-")
    loaded = critic.model.state_dict()  # type: ignore[attr-defined]
    assert all(torch.equal(loaded[key], value) for key, value in stock.state_dict().items())
    assert critic.counts(torch.rand(1, 3, 64, 64), ["apple", "dog"]).shape == (1, 2)


def test_a_torchvision_file_without_classes_or_state_dict_is_an_error(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    torch.save([1, 2], tmp_path / "a.pth")
    for file, message in (("a.safetensors", "needs the names of its classes"), ("a.pth", "is not a state dict")):
        with pytest.raises(ValueError, match=message):
            load_critic(f"torchvision:ssdlite320_mobilenet_v3_large@{tmp_path / file}")
