"""Backbone, critics and judge are found by name; wrong names and detectors that do not go together are errors."""

import pytest
import torch

import countgen
from countgen.critics import from_module
from countgen.models import load_critic, parts_of


def test_a_file_of_weights_may_have_an_at_sign_in_its_name(tmp_path):
    (tmp_path / "a@b.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match="cannot read fcos from"):
        load_critic(f"fcos:{tmp_path / 'a@b.safetensors'}")


@pytest.mark.parametrize("critics", ["miniature-heatmap", ["miniature-heatmap"], None])
def test_without_a_judge_the_critics_alone_count(critics):
    critics = critics or load_critic("miniature-heatmap")
    models = countgen.load("miniature", critics=critics, judge=None, device="cpu")
    assert [critic.name for critic in models.critics] == ["miniature-heatmap"]
    result = countgen.generate("two cats", models, method="plain")
    assert (result.judge_counts, result.verified, result.detections) == ((), None, ())
    assert (result.recipe["judge"], result.recipe["judge_counts"]) == (None, [])
    assert "judge" not in repr(result)
    with pytest.raises(ValueError, match="needs a judge"):
        countgen.generate("two cats", models, until="judge")


def test_detectors_are_announced_before_anything_is_loaded(monkeypatch):
    def stop(choice, missing):
        raise ValueError(f"{choice.described}; {len(missing)} to download")

    monkeypatch.setattr("countgen.backbones.load", None)
    with pytest.raises(ValueError, match="critic miniature-yolo, miniature-heatmap; judge"):
        countgen.load("miniature", announce=stop)


def module_critic(threshold):
    return from_module(lambda images: [], ["apple"], threshold=threshold)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"critics": (torch.nn.Identity(),)}, r"got Identity; critics\.from_module"),
        ({"critics": ("miniature-yolo",), "judge": torch.nn.Identity()}, r"got Identity; critics\.from_module"),
        ({"critics": ("miniature-fcos by miniature-density",)}, r"fcos.* of the same family"),
        ({"critics": [module_critic(0.3), module_critic(0.9)], "judge": "miniature-fcos"}, "have one name"),
        ({"judge": "torch:fasterrcnn"}, "unknown critic 'torch'"),
    ],
)
def test_detectors_that_do_not_go_together_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        countgen.load(**options)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("yolo11x", "available: miniature-yolo"),
        ("os:system", "unknown critic 'os'"),
        ("miniature-yolo by miniature-fcos", "miniature-fcos has no density map"),
        ("magic by miniature-density", "unknown detector 'magic'"),
        (" by miniature-density", "unknown detector ''"),
        ("miniature-yolo by magic", "unknown detector 'miniature-yolo by magic'"),
        ("fcos:somewhere@v1", "fcos: got an unexpected keyword argument 'revision'; it takes weights"),
        ("yolo:nowhere.pt", r"nowhere\.pt"),
        ("yolo:yolo11n@main", "of Ultralytics/YOLO11@main is not in the hub"),
    ],
)
def test_names_of_no_detector_are_errors(name, message):
    with pytest.raises((ValueError, OSError), match=message):
        load_critic(name)


def test_the_parts_of_a_pair_are_what_steers():
    assert parts_of("miniature-yolo by miniature-density") == ("miniature-yolo", "miniature-density")
    assert parts_of("yolo:cars by night.pt") == ("yolo:cars by night.pt",)
