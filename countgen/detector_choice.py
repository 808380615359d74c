"""Choose critics and judge by what is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from countgen import miniature
from countgen.critics.catalogue import with_facts
from countgen.critics.vocabulary import COCO_CLASSES, class_index

AUTO = "auto"
"""Stands for a judge's name: one is chosen by what is counted."""
COCO = (("yolo:yolo11m",), "torchvision:fasterrcnn_resnet50_fpn_v2")
OPEN_VOCABULARY = (("owl:owlv2-base",), "grounding_dino:tiny")
COCO_COUNTER = "nanodet"
"""The embedded detector of COCO's classes: it loads quickly, without diffusers and transformers."""


def counter(object_names: Sequence[str]) -> str:
    """Return the name of the detector that counts objects in images from anywhere."""
    return COCO_COUNTER if all(map(in_coco, object_names)) else OPEN_VOCABULARY[0][0]


@dataclass(frozen=True)
class Choice:
    """Detectors by name.

    Attributes:
        critics: that steer.
        judge: that only counts; None for a run without one.
        because: why these, for the user; empty if all of them were named.
    """

    critics: tuple[str, ...]
    judge: str | None
    because: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """All detectors, critics first."""
        return self.critics if self.judge is None else (*self.critics, self.judge)

    @property
    def described(self) -> str:
        """One line for the user: names, licences and sizes."""
        judge = "no judge" if self.judge is None else f"judge {with_facts(self.judge)}"
        because = f" ({self.because})" if self.because else ""
        return f"critic {', '.join(map(with_facts, self.critics))}; {judge}{because}"


def choose(
    model_name: str, object_names: Sequence[str], critics: Sequence[str] | None = None, judge: str | None = AUTO
) -> Choice:
    """Choose detectors for a model and what is counted.

    An embedded model has its own. Otherwise objects that are all COCO classes get detectors that were trained on them,
    any other noun gets detectors that read it.

    Args:
        model_name: of a preset; others are like published ones.
        object_names: none means objects of COCO.
        critics: named by the user, and kept.
        judge: likewise; None for a run without one.

    Raises:
        ValueError: the judge is also a critic.
    """
    (usual_critics, usual_judge), because = _usual(model_name, object_names)
    if critics and judge != AUTO:
        because = ""
    choice = Choice(tuple(critics or usual_critics), usual_judge if judge == AUTO else judge, because)
    if choice.judge in choice.critics:
        raise ValueError(
            f"the judge {choice.judge!r} is also a critic; a judge must be a detector that nothing optimises"
        )
    return choice


def _usual(model_name: str, object_names: Sequence[str]) -> tuple[tuple[tuple[str, ...], str], str]:
    if model_name.startswith("miniature"):
        return (miniature.CRITICS, miniature.JUDGE), ""
    others = [name for name in object_names if not in_coco(name)]
    if others:
        return OPEN_VOCABULARY, f"{others[0]!r} is not a COCO class"
    if object_names:
        return COCO, "for classes of COCO"
    return COCO, "for classes of COCO, since no objects were named"


def in_coco(object_name: str) -> bool:
    """Return whether an object is one of COCO's classes, plural or synonym."""
    return class_index(object_name, COCO_CLASSES) is not None
