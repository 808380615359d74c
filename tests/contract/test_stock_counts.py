"""A critic's hard count is that of the stock library's own post-processing.

Detectors are compared in double precision where their library's post-processing takes it: an untrained network has
hundreds of boxes near the threshold and near one another. Non-maximum suppression compares in single precision, so
that on some processors one of all counts may be one apart.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.ops import nms

from countgen.critics import Critic, load
from tests.contract.pictures import rendered
from tests.contract.tiny_detectors import ULTRALYTICS, as_a_user_gives_it, tiny, write_checkpoint


def in_double(critic: Any) -> Any:
    """Return a copy of the critic, which a test may change, in double precision."""
    critic = copy.deepcopy(critic)
    critic.model.double()
    return critic


def below_the_limit(critic: Any, images: Tensor, pairs: int = 30) -> Any:
    """Return a copy of the critic, with a threshold that fewer (query, class) pairs pass than its library returns.

    It lies in a wide gap between two of their logits, which no rounding crosses. A softmax over the classes has no
    such limit: there it is near the middle image's.
    """
    with torch.no_grad():
        logits = critic.propose(images, critic.object_names).logits.flatten(1)
    ranked = logits.sort(dim=1, descending=True).values[:, pairs]
    start = ranked.median() if critic.one_class_per_box else ranked.amax()
    above = logits[logits >= start].sort().values[:20]
    gap = int(above.diff().argmax())
    twin = copy.deepcopy(critic)
    twin.configure(threshold=float(above[gap : gap + 2].mean().sigmoid()))
    return twin


def assert_counts(critic: Any, images: Tensor, labels: Iterable[Tensor], apart: int = 0) -> None:
    """Compare the counts of every class with the labels of each image's detections, by the stock library."""
    classes = range(len(critic.object_names))
    expected = torch.tensor([[int((image == label).sum()) for label in classes] for image in labels])
    differences = critic.counts(images, critic.object_names) - expected
    assert int(differences.abs().sum()) <= apart, differences
    assert len({tuple(row) for row in expected.tolist()}) > 2  # some, and not always as many


def from_checkpoint(critic: Any, folder: Path, name: str) -> tuple[Any, Path]:
    """Return the critic of a checkpoint of the given one, with its settings, and the checkpoint."""
    path = write_checkpoint(critic, folder / f"{name}.pt")
    kind = {"yoloe": "yolo_world", "yolo-world": "yolo_world", "ultralytics-rtdetr": "ultralytics_rtdetr"}
    settings = {"threshold": critic.settings.threshold, "nms_iou": critic.settings.nms_iou}
    return load(kind.get(name, "yolo"), weights=path, **settings), path


def predicted(checkpoint: Path, critic: Critic, images: Tensor) -> list[Tensor]:
    """Return the labels that Ultralytics' `predict` gives 8-bit images."""
    import ultralytics

    kind = ultralytics.RTDETR if checkpoint.stem == "ultralytics-rtdetr" else ultralytics.YOLO
    sources = [image.permute(1, 2, 0).mul(255).round().byte().numpy()[..., ::-1] for image in images]
    settings = critic.settings
    options = {"conf": settings.threshold, "iou": settings.nms_iou or 0.7, "imgsz": settings.image_size}
    return [result.boxes.cls for result in kind(checkpoint).predict(sources, verbose=False, **options)]


def eight_bit(images: Tensor) -> Tensor:
    return images.mul(255).round().div(255)


def test_a_trained_checkpoint_counts_as_predict_does(tmp_path: Path) -> None:
    images = eight_bit(rendered(24))
    critic, checkpoint = from_checkpoint(tiny("miniature-yolo"), tmp_path, "yolo")
    assert_counts(critic, images, predicted(checkpoint, critic, images))
    # Ultralytics resizes in whole numbers: a score at the threshold may fall on the other side.
    resized = eight_bit(interpolate(images, (150, 200), mode="bilinear"))
    assert_counts(critic, resized, predicted(checkpoint, critic, resized), apart=2)


def test_rtdetr_counts_as_predict_does(tmp_path: Path) -> None:
    images = eight_bit(rendered(24))
    critic, checkpoint = from_checkpoint(
        below_the_limit(tiny("ultralytics-rtdetr"), images), tmp_path, "ultralytics-rtdetr"
    )
    labels = predicted(checkpoint, critic, images)
    # `predict` folds normalisation into the convolutions, which moves the wild scores of an untrained network.
    critic.model.fuse(verbose=False)
    assert_counts(critic, images, labels)


@pytest.mark.parametrize("name", ULTRALYTICS)
def test_a_checkpoint_counts_as_after_ultralytics_own_suppression(tmp_path: Path, name: str) -> None:
    from ultralytics.utils.nms import non_max_suppression

    critic, images = in_double(from_checkpoint(tiny(name), tmp_path, name)[0]), rendered(16).double()
    settings = critic.settings
    with torch.no_grad():
        boxes_and_scores, _ = critic._run(images)
        detections = non_max_suppression(
            boxes_and_scores, settings.threshold, settings.nms_iou, nc=len(critic.object_names), max_time_img=60
        )
    assert_counts(critic, images, [image[:, 5] for image in detections], apart=1)


@pytest.mark.parametrize("name", ["detr", "rtdetr", "rtdetr-v2", "dfine"])
def test_detr_counts_as_its_image_processor_does(name: str) -> None:
    images = rendered(16)
    critic = below_the_limit(tiny(name), images)
    with torch.no_grad():
        inputs = critic.image_processor(list(images), do_rescale=False, return_tensors="pt")
        results = critic.image_processor.post_process_object_detection(
            critic.model(**inputs), threshold=critic.settings.threshold, target_sizes=[(128, 128)] * len(images)
        )
    assert_counts(critic, images, [result["labels"] for result in results])


@pytest.mark.parametrize("name", ["owlv2", "owlvit"])
def test_owl_detects_what_its_image_processor_does_after_suppression(name: str) -> None:
    critic: Any = tiny(name)
    images = interpolate(rendered(16), (96, 128), mode="bilinear")
    length = critic.model.config.text_config.max_position_embeddings
    tokens = critic.tokenizer(
        ["a photo of a apple"] * len(images), padding="max_length", max_length=length, return_tensors="pt"
    )
    with torch.no_grad():
        inputs = critic.image_processor(list(images), do_rescale=False, return_tensors="pt")
        results = critic.image_processor.post_process_object_detection(
            critic.model(pixel_values=inputs["pixel_values"], **tokens),
            threshold=critic.settings.threshold,
            target_sizes=[(96, 128)] * len(images),
        )
    kept = [nms(result["boxes"], result["scores"], critic.settings.nms_iou) for result in results]
    detections = [image_detections for (image_detections,) in critic.detect(images, ["apples"])]
    assert [len(image_detections) for image_detections in detections] == [len(boxes) for boxes in kept]
    assert len(set(map(len, kept))) > 1
    for image_detections, result, best_first in zip(detections, results, kept, strict=True):
        torch.testing.assert_close(image_detections.boxes, result["boxes"][best_first], rtol=0, atol=0.01)


def test_sam3_counts_as_its_processor_does_with_several_objects_at_once() -> None:
    critic: Any = tiny("sam3")
    images = rendered(20)
    processor = transformers.Sam3Processor(critic.image_processor, critic.tokenizer)
    expected = []
    for word in ("apple", "dog"):
        with torch.no_grad():
            inputs = processor(images=list(images), text=[word] * len(images), do_rescale=False, return_tensors="pt")
            output = critic.model(**{key: inputs[key] for key in ("pixel_values", "input_ids", "attention_mask")})
        results = processor.post_process_instance_segmentation(
            output, threshold=critic.settings.threshold, target_sizes=[(128, 128)] * len(images)
        )
        expected.append([len(result["scores"]) for result in results])
    assert critic.counts(images, ["apples", "dog"]).tolist() == torch.tensor(expected).T.tolist()
    assert len(set(expected[0])) > 1
    (first, _), *_ = critic.detect(images[:1], ["dog", "apple"])
    torch.testing.assert_close(first.boxes.sort(dim=0).values, results[0]["boxes"].sort(dim=0).values)


def test_grounding_dino_counts_as_its_processor_does() -> None:
    critic: Any = tiny("grounding-dino")
    images, threshold = rendered(16), critic.settings.threshold
    processor = transformers.GroundingDinoProcessor(critic.image_processor, critic.tokenizer)
    with torch.no_grad():
        inputs = processor(images=list(images), text=["apple."] * len(images), do_rescale=False, return_tensors="pt")
        results = processor.post_process_grounded_object_detection(
            critic.model(**inputs), threshold=threshold, text_threshold=threshold
        )
    expected = [sum("apple" in text for text in result["text_labels"]) for result in results]
    assert critic.counts(images, ["apple"])[:, 0].tolist() == expected
    assert len(set(expected)) > 1


@pytest.mark.parametrize("name", ["fasterrcnn", "retinanet", "fcos", "ssd", "miniature-fcos"])
def test_torchvision_detectors_count_as_they_do_themselves_also_as_a_users_module(name: str) -> None:
    critic, images = in_double(tiny(name)), interpolate(rendered(16), (128, 150), mode="bilinear").double()
    with torch.no_grad():
        results = critic.model(list(images))
    background = 0 if name == "miniature-fcos" else 1
    labels = [result["labels"][result["scores"] > critic.settings.threshold] - background for result in results]
    assert_counts(critic, images, labels, apart=1)
    if background:
        assert_counts(as_a_user_gives_it(critic), images, labels)
