"""Backbone, critics and judge are found by name, and wrong names are answered well."""

import pytest
import torch

import countgen
from countgen import backbones
from countgen.critics import from_module
from countgen.critics.dynamic_scale import DynamicScaleCritic
from countgen.models import load_critic, parts_of


def test_the_embedded_judge_is_of_another_architecture_than_every_critic(models):
    assert not models.judge.families & frozenset().union(*(critic.families for critic in models.critics))


def test_a_judge_of_a_critics_family_is_refused(models):
    critic = models.judge
    with pytest.raises(ValueError, match=r"same family \(fcos\).*name a judge of another family"):
        countgen.Models(models.backbone, (critic,), models.judge)


def test_a_revision_follows_an_at_sign_and_a_file_may_have_one_in_its_name(tmp_path):
    with pytest.raises(ValueError, match="fcos: got an unexpected keyword argument 'revision'; it takes weights"):
        load_critic("fcos:somewhere@v1")
    with pytest.raises(OSError, match="of Ultralytics/YOLO11@main is not in the hub"):
        load_critic("yolo:yolo11n@main")
    (tmp_path / "a@b.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match="cannot read fcos from"):
        load_critic(f"fcos:{tmp_path / 'a@b.safetensors'}")


def test_an_unknown_backbone_names_the_near_one():
    with pytest.raises(ValueError, match="did you mean miniature"):
        backbones.load("miniatur")


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

    monkeypatch.setattr("countgen.models.load_source", None)
    with pytest.raises(ValueError, match="critic miniature-yolo, miniature-heatmap; judge"):
        countgen.load("miniature", announce=stop)


def test_what_is_no_detector_is_refused():
    for options in (
        {"critics": (torch.nn.Identity(),)},
        {"critics": ("miniature-yolo",), "judge": torch.nn.Identity()},
    ):
        with pytest.raises(ValueError, match=r"got Identity; critics\.from_module"):
            countgen.load(**options)


def test_two_critics_of_one_name_are_refused():
    def detector(images):
        return []

    critics = [from_module(detector, ["apple"], threshold=threshold) for threshold in (0.3, 0.9)]
    with pytest.raises(ValueError, match=r"two of the critics detector, detector have one name"):
        countgen.load(critics=critics, judge="miniature-fcos")


def test_an_unknown_detector_lists_what_there_is():
    with pytest.raises(ValueError, match="miniature-yolo"):
        load_critic("yolo11x")


def test_an_unknown_kind_of_detector_is_not_imported():
    with pytest.raises(ValueError, match="unknown critic 'os'"):
        load_critic("os:system")


def test_missing_weights_are_named():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pt"):
        load_critic("yolo:nowhere.pt")


def test_a_judge_that_is_a_critic_is_refused():
    with pytest.raises(ValueError, match="also a critic"):
        countgen.load("miniature", critics=("miniature-fcos",), judge="miniature-fcos")


def test_the_parts_of_a_pair_are_what_steers():
    assert parts_of("miniature-yolo by miniature-density") == ("miniature-yolo", "miniature-density")
    assert parts_of("yolo:cars by night.pt") == ("yolo:cars by night.pt",)


def test_a_detector_by_a_density_counter_is_named_as_records_name_it():
    critic = load_critic("miniature-fcos by miniature-density")
    assert isinstance(critic, DynamicScaleCritic)
    assert (critic.detector.name, critic.density.name) == ("miniature-fcos", "miniature-density")
    assert critic.name == "miniature-fcos by miniature-density"
    with pytest.raises(ValueError, match=r"fcos.* of the same family"):
        countgen.load(critics=("miniature-fcos by miniature-density",))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("miniature-yolo by miniature-fcos", "miniature-fcos has no density map"),
        ("magic by miniature-density", "unknown detector 'magic'"),
        (" by miniature-density", "unknown detector ''"),
        ("miniature-yolo by magic", "unknown detector 'miniature-yolo by magic'"),
    ],
)
def test_a_detector_by_something_else_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        load_critic(name)
