"""Backbone, critics and judge are found by name, and wrong names are answered well."""

import pytest

import countgen
from countgen import backbones
from countgen.models import load_critic


def test_the_embedded_judge_is_of_another_architecture_than_every_critic(models):
    assert type(models.judge) not in {type(critic) for critic in models.critics}


def test_an_unknown_backbone_names_the_near_one():
    with pytest.raises(ValueError, match="Did you mean miniature"):
        backbones.load("miniatur")


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


def test_a_published_backbone_asks_for_detectors():
    with pytest.raises(ValueError, match="comes without detectors"):
        countgen.load("sdxl-turbo")
