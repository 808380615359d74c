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

from countgen.critics import Critic, load

Critics = Callable[[str], Any]
Pictures = Callable[..., Tensor]
YOLOS = ("miniature-yolo", "yolov8", "yolov9", "yolov10", "yolo12", "yolo26")
WITH_TEXT = ("yolo-world", "yoloe")


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

    kind = {"yoloe": ultralytics.YOLOE, "ultralytics-rtdetr": ultralytics.RTDETR}.get(checkpoint.stem, ultralytics.YOLO)
    sources = [image.permute(1, 2, 0).mul(255).round().byte().numpy()[..., ::-1] for image in images]
    options = {
        "conf": critic.settings.threshold,
        "iou": critic.settings.nms_iou or 0.7,
        "imgsz": critic.settings.image_size,
    }
    # YOLOE would let one class suppress another.
    options |= {"verbose": False, "agnostic_nms": False}
    results = kind(checkpoint).predict(sources, **options)
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


def assert_alike(found: Tensor, expected: list[list[int]], trained: bool = False) -> None:
    """Equal; of an untrained network's hundreds of boxes, one may fall on the other side of an overlap.

    Both libraries keep classes apart by moving their boxes thousands of pixels away, which rounds them.
    """
    difference = (found - torch.tensor(expected)).abs()
    assert difference.max() <= (0 if trained else 1), (found.tolist(), expected)
    assert difference.sum() <= 0.001 * sum(map(sum, expected)), (found.tolist(), expected)
    assert differ(expected)


def differ(counts: list[list[int]]) -> bool:
    """Whether there is anything to compare: some, and not always as many."""
    return len({tuple(row) for row in counts}) > 2


def eight_bit(images: Tensor) -> Tensor:
    return images.mul(255).round().div(255)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*YOLOS, *WITH_TEXT, "ultralytics-rtdetr"])
def test_a_checkpoint_counts_as_predict_does(critics: Critics, pictures: Pictures, tmp_path: Path, name: str) -> None:
    images = eight_bit(pictures(60))
    tiny = below_the_limit(critics(name), images) if "rtdetr" in name else critics(name)
    checkpoint = as_checkpoint(tiny, tmp_path, "mini-world" if name == "yolo-world" else name)
    kind = "yolo" if name in YOLOS else name.replace("-", "_").replace("yoloe", "yolo_world")
    suppression = {} if tiny.settings.nms_iou is None else {"nms_iou": tiny.settings.nms_iou}
    critic = load(kind, weights=checkpoint, threshold=tiny.settings.threshold, **suppression)
    expected = stock_counts(checkpoint, critic, images)
    if name != "miniature-yolo":
        # `predict` folds normalisation into the convolutions, which moves the wild scores of an untrained network.
        critic.model.fuse(verbose=False)
    assert_alike(critic.counts(images, critic.object_names), expected, trained=name == "miniature-yolo")


@pytest.mark.slow
def test_a_resized_picture_counts_as_predict_does(critics: Critics, pictures: Pictures, tmp_path: Path) -> None:
    critic = critics("miniature-yolo")
    images = eight_bit(interpolate(pictures(60), (150, 200), mode="bilinear"))
    expected = torch.tensor(stock_counts(as_checkpoint(critic, tmp_path, "mini"), critic, images))
    found = critic.counts(images, critic.object_names)
    # Ultralytics resizes in whole numbers: a score at the threshold may fall on the other side.
    assert (found - expected).abs().max() <= 1
    assert (found == expected).all(1).sum() >= 57


@pytest.mark.parametrize("name", ["detr", "rtdetr", "rtdetr-v2", "dfine"])
def test_detr_counts_as_its_image_processor_does(critics: Critics, pictures: Pictures, name: str) -> None:
    images = pictures(40)
    critic = below_the_limit(critics(name), images)
    with torch.no_grad():
        inputs = critic.image_processor(list(images), do_rescale=False, return_tensors="pt")
        results = critic.image_processor.post_process_object_detection(
            critic.model(**inputs), threshold=critic.settings.threshold, target_sizes=[(128, 128)] * len(images)
        )
    expected = [tallied(result["labels"], critic) for result in results]
    assert_alike(critic.counts(images, critic.object_names), expected)


@pytest.mark.parametrize("name", ["owlv2", "owlvit"])
def test_owl_counts_as_its_image_processor_does_after_suppression(
    critics: Critics, pictures: Pictures, name: str
) -> None:
    critic, images = critics(name), pictures(40)
    length = critic.model.config.text_config.max_position_embeddings
    tokens = critic.tokenizer(
        ["a photo of a apple"] * len(images), padding="max_length", max_length=length, return_tensors="pt"
    )
    with torch.no_grad():
        inputs = critic.image_processor(list(images), do_rescale=False, return_tensors="pt")
        results = critic.image_processor.post_process_object_detection(
            critic.model(pixel_values=inputs["pixel_values"], **tokens),
            threshold=critic.settings.threshold,
            target_sizes=[(128, 128)] * len(images),
        )
    expected = [len(nms(result["boxes"], result["scores"], critic.settings.nms_iou)) for result in results]
    assert critic.counts(images, ["apples"])[:, 0].tolist() == expected
    assert len(set(expected)) > 1


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


def test_sam3_multiplies_the_probabilities_of_a_query_and_of_the_objects_presence() -> None:
    from countgen.critics.detectors.sam3 import probability_logit

    queries = torch.linspace(-60, 12, 40, dtype=torch.float64)[None].requires_grad_(True)
    presence = torch.tensor([[-10.0, 0.0, 3.0, 10.0]], dtype=torch.float64).T.requires_grad_(True)
    found = probability_logit(queries, presence)
    torch.testing.assert_close(found.sigmoid(), queries.sigmoid() * presence.sigmoid())
    assert all(
        bool(torch.isfinite(gradient).all() and (gradient > 0).all())
        for gradient in torch.autograd.grad(found.sum(), (queries, presence))
    )
    assert torch.isfinite(probability_logit(torch.tensor([[90.0, -90.0]]), torch.tensor([[10.0]]))).all()


def test_grounding_dino_counts_as_its_processor_does(critics: Critics, pictures: Pictures) -> None:
    from transformers import GroundingDinoProcessor

    critic, images = critics("grounding-dino"), pictures(40)
    processor = GroundingDinoProcessor(critic.image_processor, critic.tokenizer)
    with torch.no_grad():
        inputs = processor(images=list(images), text=["apple."] * 40, do_rescale=False, return_tensors="pt")
        results = processor.post_process_grounded_object_detection(
            critic.model(**inputs), threshold=critic.settings.threshold, text_threshold=critic.settings.threshold
        )
    expected = [sum("apple" in text for text in result["text_labels"]) for result in results]
    assert critic.counts(images, ["apple"])[:, 0].tolist() == expected
    assert len(set(expected)) > 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fasterrcnn", "retinanet", "fcos", "ssd"])
def test_torchvision_detectors_count_as_they_do_themselves(critics: Critics, pictures: Pictures, name: str) -> None:
    critic, images = critics(name), pictures(40)
    with torch.no_grad():
        results = critic.model(list(images))
    expected = [
        tallied(result["labels"][result["scores"] > critic.settings.threshold] - 1, critic) for result in results
    ]
    assert_alike(critic.counts(images, critic.object_names), expected)
