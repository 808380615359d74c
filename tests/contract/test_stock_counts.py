"""A critic's hard count is that of the stock library's own post-processing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.ops import nms

from countgen.critics import Critic, Proposals, load
from countgen.critics.detections import hard_count

Critics = Callable[[str], Any]
Pictures = Callable[..., Tensor]


def as_checkpoint(critic: Any, folder: Path, stem: str) -> Path:
    """The critic's network as the file Ultralytics would have written."""
    model = critic.model
    model.names = dict(enumerate(critic.object_names))
    model.args = {"task": "detect", "imgsz": critic.settings.image_size}
    model.task = "detect"
    for name in ("txt_feats", "pe"):
        if hasattr(model, name) or (name == "pe" and stem == "yoloe"):
            setattr(model, name, critic.embeddings[None])
    path = folder / f"{stem}.pt"
    torch.save({"model": model, "train_args": model.args}, path)
    return path


def stock_counts(checkpoint: Path, critic: Critic, images: Tensor) -> list[list[int]]:
    """Counts of every class by Ultralytics' `predict`, from 8-bit pictures."""
    import ultralytics

    kind = ultralytics.RTDETR if checkpoint.stem == "ultralytics-rtdetr" else ultralytics.YOLO
    sources = [image.permute(1, 2, 0).mul(255).round().byte().numpy()[..., ::-1] for image in images]
    options = {
        "conf": critic.settings.threshold,
        "iou": critic.settings.nms_iou or 0.7,
        "imgsz": critic.settings.image_size,
    }
    results = kind(checkpoint).predict(sources, verbose=False, **options)
    return [tallied(result.boxes.cls, critic) for result in results]


def tallied(labels: Tensor, critic: Critic) -> list[int]:
    """Detections per class."""
    assert critic.object_names is not None
    return [int((labels == label).sum()) for label in range(len(critic.object_names))]


def below_the_limit(critic: Any, images: Tensor, pairs: int = 30) -> Any:
    """The critic with a threshold that fewer (query, class) pairs pass than the stock library returns.

    A softmax over the classes has no such limit: there it is the middle picture's threshold.
    """
    with torch.no_grad():
        logits = critic.propose(images, critic.object_names).logits.flatten(1)
    ranked = logits.sort(dim=1, descending=True).values
    twin = copy.copy(critic)
    limits = ranked[:, pairs : pairs + 2].mean(1)
    twin.configure(threshold=float((limits.median() if critic.one_class_per_box else limits.amax()).sigmoid()))
    return twin


def assert_counts(critic: Any, images: Tensor, expected: list[list[int]]) -> None:
    """The counts of every class, equal but where they hang on rounding: there they are at most one apart.

    Both libraries keep classes apart by moving their boxes thousands of pixels away, which rounds them to 1/500 of a
    pixel, and order boxes by probabilities, which round where they are near 0 and 1. Counts hang on that where noise of
    0.01 pixels and 0.001 logits changes them.
    """
    counts = critic.counts(images, critic.object_names)
    with torch.no_grad():
        proposals = critic.propose(images, critic.object_names)
    stable = torch.ones_like(counts, dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    for _ in range(8):
        boxes, logits = (
            torch.randn(values.shape, generator=generator) for values in (proposals.boxes, proposals.logits)
        )
        noisy = Proposals(proposals.boxes + 0.01 * boxes, proposals.logits + 0.001 * logits, proposals.columns)
        stable &= torch.stack([hard_count(c, critic.threshold_logit) for c in critic.select(noisy)], 1) == counts
    difference = (counts - torch.tensor(expected)).abs()
    assert (difference <= 1 - stable.int()).all(), (difference[stable], counts.tolist(), expected)
    assert stable.float().mean() > 0.8
    assert len({tuple(row) for row in expected}) > 2  # some, and not always as many


def eight_bit(images: Tensor) -> Tensor:
    return images.mul(255).round().div(255)


def from_checkpoint(critic: Any, folder: Path, name: str) -> tuple[Any, Path]:
    """The critic of a checkpoint, with the settings of the critic that it was written from."""
    kind = {"yoloe": "yolo_world", "yolo-world": "yolo_world", "ultralytics-rtdetr": "ultralytics_rtdetr"}
    checkpoint = as_checkpoint(critic, folder, name)
    settings = {"threshold": critic.settings.threshold, "nms_iou": critic.settings.nms_iou}
    return load(kind.get(name, "yolo"), weights=checkpoint, **settings), checkpoint


@pytest.mark.parametrize("name", ["miniature-yolo", "ultralytics-rtdetr"])
def test_a_checkpoint_counts_as_predict_does(critics: Critics, pictures: Pictures, tmp_path: Path, name: str) -> None:
    images = eight_bit(pictures(24))
    tiny = critics(name) if name == "miniature-yolo" else below_the_limit(critics(name), images)
    critic, checkpoint = from_checkpoint(tiny, tmp_path, name)
    expected = stock_counts(checkpoint, critic, images)
    if name != "miniature-yolo":
        # `predict` folds normalisation into the convolutions, which moves the wild scores of an untrained network.
        critic.model.fuse(verbose=False)
    assert_counts(critic, images, expected)


@pytest.mark.parametrize("name", ["yolov8", "yolov9", "yolov10", "yolo12", "yolo26", "yolo-world", "yoloe"])
def test_a_checkpoint_counts_as_after_ultralytics_own_suppression(
    critics: Critics, pictures: Pictures, tmp_path: Path, name: str
) -> None:
    """In double precision: an untrained network has hundreds of boxes near the threshold and near one another.

    The suppression compares in single precision, so that on some processors one of them may fall on the other side.
    """
    from ultralytics.utils.nms import non_max_suppression

    critic, _ = from_checkpoint(critics(name), tmp_path, name)
    critic.model.double()
    images = pictures(16).double()
    with torch.no_grad():
        boxes_and_scores, _ = critic._run(images)
        detections = non_max_suppression(
            boxes_and_scores,
            critic.settings.threshold,
            critic.settings.nms_iou,
            nc=len(critic.object_names),
            max_time_img=60,
        )
    expected = [tallied(image[:, 5], critic) for image in detections]
    differences = critic.counts(images, critic.object_names) - torch.tensor(expected)
    assert int(differences.abs().sum()) <= 1, differences
    assert len({tuple(row) for row in expected}) > 2


def test_a_resized_picture_counts_as_predict_does(critics: Critics, pictures: Pictures, tmp_path: Path) -> None:
    critic = critics("miniature-yolo")
    images = eight_bit(interpolate(pictures(24), (150, 200), mode="bilinear"))
    expected = torch.tensor(stock_counts(as_checkpoint(critic, tmp_path, "mini"), critic, images))
    counts = critic.counts(images, critic.object_names)
    # Ultralytics resizes in whole numbers: a score at the threshold may fall on the other side.
    assert (counts - expected).abs().max() <= 1
    assert (counts == expected).all(1).sum() >= 22


@pytest.mark.parametrize("name", ["detr", "rtdetr", "rtdetr-v2", "dfine"])
def test_detr_counts_as_its_image_processor_does(critics: Critics, pictures: Pictures, name: str) -> None:
    images = pictures(16)
    critic = below_the_limit(critics(name), images)
    with torch.no_grad():
        inputs = critic.image_processor(list(images), do_rescale=False, return_tensors="pt")
        results = critic.image_processor.post_process_object_detection(
            critic.model(**inputs), threshold=critic.settings.threshold, target_sizes=[(128, 128)] * len(images)
        )
    expected = [tallied(result["labels"], critic) for result in results]
    assert_counts(critic, images, expected)


@pytest.mark.parametrize("name", ["owlv2", "owlvit"])
def test_owl_detects_what_its_image_processor_does_after_suppression(
    critics: Critics, pictures: Pictures, name: str
) -> None:
    critic, images = critics(name), interpolate(pictures(16), (96, 128), mode="bilinear")
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


def test_sam3_counts_as_its_processor_does_with_several_objects_at_once(critics: Critics, pictures: Pictures) -> None:
    from transformers import Sam3Processor

    critic, images = critics("sam3"), pictures(20)
    processor = Sam3Processor(critic.image_processor, critic.tokenizer)
    expected = []
    for word in ("apple", "dog"):
        with torch.no_grad():
            inputs = processor(images=list(images), text=[word] * len(images), do_rescale=False, return_tensors="pt")
            output = critic.model(
                pixel_values=inputs["pixel_values"],
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
            )
        results = processor.post_process_instance_segmentation(
            output, threshold=critic.settings.threshold, target_sizes=[(128, 128)] * len(images)
        )
        expected.append([len(result["scores"]) for result in results])
    assert critic.counts(images, ["apples", "dog"]).tolist() == torch.tensor(expected).T.tolist()
    assert len(set(expected[0])) > 1
    (first, _), *_ = critic.detect(images[:1], ["dog", "apple"])
    torch.testing.assert_close(first.boxes.sort(dim=0).values, results[0]["boxes"].sort(dim=0).values)


def test_grounding_dino_counts_as_its_processor_does(critics: Critics, pictures: Pictures) -> None:
    from transformers import GroundingDinoProcessor

    critic, images = critics("grounding-dino"), pictures(16)
    processor = GroundingDinoProcessor(critic.image_processor, critic.tokenizer)
    with torch.no_grad():
        inputs = processor(images=list(images), text=["apple."] * len(images), do_rescale=False, return_tensors="pt")
        results = processor.post_process_grounded_object_detection(
            critic.model(**inputs), threshold=critic.settings.threshold, text_threshold=critic.settings.threshold
        )
    expected = [sum("apple" in text for text in result["text_labels"]) for result in results]
    assert critic.counts(images, ["apple"])[:, 0].tolist() == expected
    assert len(set(expected)) > 1


@pytest.mark.parametrize("name", ["fasterrcnn", "retinanet", "fcos", "ssd"])
def test_torchvision_detectors_count_as_they_do_themselves(critics: Critics, pictures: Pictures, name: str) -> None:
    critic, images = copy.deepcopy(critics(name)), pictures(16).double()
    critic.model.double()
    with torch.no_grad():
        results = critic.model(list(images))
    kept = [result["labels"][result["scores"] > critic.settings.threshold] - 1 for result in results]
    expected = [tallied(labels, critic) for labels in kept]
    differences = critic.counts(images, critic.object_names) - torch.tensor(expected)
    assert int(differences.abs().sum()) <= 1, differences
    assert len({tuple(row) for row in expected}) > 2
