"""Detectors are chosen by what is counted, and their files are looked for before a large model is loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import get_model

import countgen
from countgen import miniature
from countgen.critics.catalogue import FACTS
from countgen.detector_choice import COCO, OPEN_VOCABULARY, choose
from countgen.detector_files import FILES
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


def test_sizes_are_those_of_the_architectures() -> None:
    from torchvision.models import get_model_weights
    from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection, Owlv2Config, Owlv2ForObjectDetection

    for name, model_class, config in (
        ("owl:owlv2-base", Owlv2ForObjectDetection, Owlv2Config()),
        ("grounding_dino:tiny", GroundingDinoForObjectDetection, GroundingDinoConfig()),
    ):
        with torch.device("meta"):
            numbers = sum(parameter.numel() for parameter in model_class(config).parameters())
        assert FACTS[name].megabytes == pytest.approx(4 * numbers / 1e6, rel=0.02)
    published = get_model_weights("fasterrcnn_resnet50_fpn_v2").__members__["DEFAULT"].meta["_file_size"]
    assert FACTS[COCO[1]].megabytes == pytest.approx(published * 1.048576, rel=0.02)  # torchvision counts in MiB


def test_missing_files_are_named_before_a_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_early(*_: object, **__: object) -> None:
        raise AssertionError("the large model was loaded")

    monkeypatch.setattr("countgen.backbones.load", too_early)
    with pytest.raises(FileNotFoundError) as refused:
        countgen.load("sdxl-turbo", objects=["unicorn"])
    message = str(refused.value)
    assert (
        "owl:owlv2-base (620 MB): config.json, preprocessor_config.json, model.safetensors of google/owlv2" in message
    )
    assert "grounding_dino:tiny (690 MB)" in message
    assert "(or write owl:FOLDER)" in message
    with pytest.raises(FileNotFoundError, match=r"yolo11m\.pt of Ultralytics/YOLO11.*fasterrcnn.*\.pth.*FILE"):
        countgen.load("sdxl-turbo", objects=["apple"])


def test_what_is_in_the_hubs_cache_is_found(hub_cache: Path) -> None:
    for repository, commit, files in (
        ("google/owlv2-base-patch16-ensemble", "cfd3195ba4ea9592eec887ded089f4c08eff231d", FILES),
        ("Ultralytics/YOLO11", "1" * 40, ("yolo11m.pt",)),
    ):
        folder = _snapshot(hub_cache, repository, commit, "main")
        for file in files:
            (folder / file).touch()
    assert check_detectors(["owl:owlv2-base", "yolo:yolo11m"]) == ()
    (hub_cache / "mine.pt").touch()
    assert check_detectors([f"yolo:{hub_cache / 'mine.pt'}", f"owl:{hub_cache}", "nanodet", "miniature-yolo"]) == ()


@pytest.mark.filterwarnings("ignore")  # those of the libraries
def test_a_noun_that_is_no_class_runs_offline_with_what_the_cache_holds(hub_cache: Path) -> None:
    from countgen.critics.detectors.grounding_dino import PRESETS as GROUNDING_DINO
    from countgen.critics.detectors.owl import PRESETS as OWL

    for preset, critic in (
        (OWL["owlv2-base"], tiny_detectors.owl("owlv2")),
        (GROUNDING_DINO["tiny"], tiny_detectors.grounding_dino()),
    ):
        folder = _snapshot(hub_cache, *preset.split("@"))
        for part in ("model", "image_processor", "tokenizer"):
            getattr(critic, part).save_pretrained(folder)
    fine_tune = _snapshot(hub_cache, "owner/fine-tune", "1" * 40, "main")
    shutil.copytree(miniature.FOLDER / "mini-sdxl-turbo", fine_tune, dirs_exist_ok=True)
    models = countgen.load("owner/fine-tune", objects=["unicorn"], num_inference_steps=1, device="cpu")
    result = countgen.generate("two unicorns", models, method="plain")
    assert [models.critics[0].name, models.judge.name] == ["owl:owlv2-base", "grounding_dino:tiny"]
    assert result.recipe["detectors_chosen"] == "'unicorn' is no class of COCO"
    assert len(result.judge_counts) == 1


def _snapshot(cache: Path, repository: str, commit: str, reference: str | None = None) -> Path:
    """Where the hub's cache keeps a commit of a repository."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    if reference is not None:
        (folder / "refs" / reference).write_text(commit)
    (folder / "snapshots" / commit).mkdir(parents=True, exist_ok=True)
    return folder / "snapshots" / commit


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


def test_a_torchvision_file_that_says_no_classes_or_is_no_state_dict_is_refused(tmp_path: Path) -> None:
    name = f"torchvision:ssdlite320_mobilenet_v3_large@{tmp_path}"
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="needs the names of its classes"):
        load_critic(f"{name}/a.safetensors")
    torch.save([1, 2], tmp_path / "a.pth")
    with pytest.raises(ValueError, match="is not a state dict"):
        load_critic(f"{name}/a.pth")
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: .*none\.pth"):
        load_critic(f"{name}/none.pth")
