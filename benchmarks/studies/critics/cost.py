"""The cost of an evaluation with gradient, for every family of critics: `python -m benchmarks.studies.critics.cost`.

Published sizes with random weights, since nothing is downloaded and cost does not depend on them, and the embedded
detectors. All see the same square image, except those that say what size they stretch it to.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from critics import Critic
from critics.losses import LOSSES

LABELS = {"id2label": dict(enumerate(map(str, range(80)))), "label2id": {str(n): n for n in range(80)}}
NAMES = tuple(map(str, range(80)))
OBJECT_NAME = "apple"
"""Object class of critics that know any name."""


def _yolo(config: str, image_size: int) -> Critic:
    from critics.detectors.yolo import YoloCritic

    return YoloCritic(_ultralytics("DetectionModel", config), NAMES, name=config, image_size=image_size)


def _ultralytics_rtdetr(config: str, image_size: int) -> Critic:
    from critics.detectors.ultralytics_rtdetr import RTDETRCritic

    model = _ultralytics("RTDETRDetectionModel", config)
    return RTDETRCritic(model, NAMES, name=config, image_size=image_size)


def _yolo_with_text(family: str, config: str, image_size: int) -> Critic:
    from critics.detectors.yolo_world import YoloWorldCritic

    embeddings = dict(zip(NAMES, torch.randn(len(NAMES), 512), strict=True))
    return YoloWorldCritic(_ultralytics(family, config), embeddings, name=config, image_size=image_size)


def _ultralytics(family: str, config: str) -> Any:
    from critics.ultralytics_files import import_ultralytics

    import_ultralytics()
    import ultralytics
    import yaml
    from ultralytics.nn import tasks

    (path,) = (Path(ultralytics.__file__).parent / "cfg" / "models").glob(f"*/{config}.yaml")
    architecture = yaml.safe_load(path.read_text())
    if "n" in architecture.get("scales", ()):
        architecture["scale"] = "n"
    return getattr(tasks, family)(architecture, nc=len(NAMES), verbose=False)


def _torchvision(name: str, image_size: int) -> Critic:
    from torchvision.models import get_model

    from critics.detectors.torchvision import TorchvisionCritic

    sizes = {} if name.startswith("ssd") else {"min_size": image_size, "max_size": image_size}
    model = get_model(name, weights=None, weights_backbone=None, num_classes=81, **sizes)
    return TorchvisionCritic(model, ("__background__", *NAMES), name=name)


def _transformers_detr(family: str, image_size: int) -> Critic:
    from transformers import AutoConfig, AutoModelForObjectDetection, RTDetrImageProcessor

    from critics.detectors.detr import DetrCritic

    # DETR's own configuration asks for a backbone of timm.
    backbone = {"backbone_config": {"model_type": "resnet", "out_features": ["stage4"]}} if family == "detr" else {}
    model = AutoModelForObjectDetection.from_config(AutoConfig.for_model(family, **backbone, **LABELS))
    return DetrCritic(model, RTDetrImageProcessor(size={"height": image_size, "width": image_size}), name=family)


def _owl(family: str, image_size: int, patch_size: int) -> Critic:
    from transformers import (
        AutoConfig,
        AutoModelForZeroShotObjectDetection,
        AutoTokenizer,
        Owlv2ImageProcessor,
        OwlViTImageProcessor,
    )

    from countgen import miniature
    from critics.detectors.owl import OwlCritic

    vision = {"image_size": image_size, "patch_size": patch_size}
    model = AutoModelForZeroShotObjectDetection.from_config(AutoConfig.for_model(family, vision_config=vision))
    processor = {"owlv2": Owlv2ImageProcessor, "owlvit": OwlViTImageProcessor}[family]
    tokenizer = AutoTokenizer.from_pretrained(miniature.FOLDER / "mini-sdxl-turbo" / "tokenizer")
    return OwlCritic(model, processor(size={"height": image_size, "width": image_size}), tokenizer, name=family)


def _grounding_dino(image_size: int) -> Critic:
    from transformers import BertTokenizer, GroundingDinoConfig, GroundingDinoForObjectDetection
    from transformers import GroundingDinoImageProcessor as Processor

    from critics.detectors.grounding_dino import GroundingDinoCritic

    # BERT's own numbers for the special tokens, which the model knows.
    words = [f"[unused{index}]" for index in range(1100)]
    for index, word in {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: "."}.items():
        words[index] = word
    words[1013] = OBJECT_NAME
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vocab.txt").write_text("\n".join(words))
        tokenizer = BertTokenizer.from_pretrained(folder)
    model = GroundingDinoForObjectDetection(GroundingDinoConfig())
    size = {"height": image_size, "width": image_size}
    return GroundingDinoCritic(model, Processor(size=size), tokenizer, name="grounding_dino")


def _embedded(name: str) -> Critic:
    from countgen import miniature

    return miniature.load_detector(name)


CRITICS: dict[str, Callable[[int], Critic]] = {
    "yolo11n": lambda size: _yolo("yolo11", size),
    "yolov8n": lambda size: _yolo("yolov8", size),
    "yolov9t": lambda size: _yolo("yolov9t", size),
    "yolov10n": lambda size: _yolo("yolov10n", size),
    "yolo12n": lambda size: _yolo("yolo12", size),
    "yolo26n": lambda size: _yolo("yolo26", size),
    "YOLO-World v8n": lambda size: _yolo_with_text("WorldModel", "yolov8-worldv2", size),
    "YOLOE-11n": lambda size: _yolo_with_text("YOLOEModel", "yoloe-11", size),
    "RT-DETR-l (Ultralytics)": lambda size: _ultralytics_rtdetr("rtdetr-l", size),
    "RT-DETR R50 (transformers)": lambda size: _transformers_detr("rt_detr", size),
    "RT-DETRv2 R50 (transformers)": lambda size: _transformers_detr("rt_detr_v2", size),
    "D-FINE (transformers)": lambda size: _transformers_detr("d_fine", size),
    "DETR R50 (transformers)": lambda size: _transformers_detr("detr", size),
    "Grounding DINO tiny": _grounding_dino,
    "FCOS R50": lambda size: _torchvision("fcos_resnet50_fpn", size),
    "RetinaNet R50 v2": lambda size: _torchvision("retinanet_resnet50_fpn_v2", size),
    "Faster R-CNN R50 v2": lambda size: _torchvision("fasterrcnn_resnet50_fpn_v2", size),
    "OWL-ViT B/32 (768 pixels)": lambda size: _owl("owlvit", 768, 32),
    "OWLv2 B/16 (960 pixels)": lambda size: _owl("owlv2", 960, 16),
    "SSD300 (300 pixels)": lambda size: _torchvision("ssd300_vgg16", size),
    "miniature-heatmap (128 pixels)": lambda _: _embedded("miniature-heatmap"),
    "miniature-fcos (128 pixels)": lambda _: _embedded("miniature-fcos"),
    "miniature-density (128 pixels)": lambda _: _embedded("miniature-density"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.critics.cost", description=__doc__)
    parser.add_argument("--critics", nargs="+", default=list(CRITICS), choices=list(CRITICS))
    parser.add_argument("--size", type=int, default=640)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    print(f"| critic | weights | ms, forward and backward, {options.size} pixels | times {options.critics[0]} |")
    print("| --- " * 4 + "|")
    first = None
    for name in options.critics:
        seconds = cost(CRITICS[name](options.size), options.size, options.device, options.repeats)
        first = first or seconds
        weights = "trained" if name.startswith("miniature") else "random"
        print(f"| {name} | {weights} | {1000 * seconds:.0f} | {seconds / first:.2f} |", flush=True)
    return 0


def cost(critic: Critic, image_size: int, device: str, repeats: int) -> float:
    """Return the median seconds of a loss and its gradient on one image; of processor time on a CPU."""
    for part in vars(critic).values():
        if isinstance(part, nn.Module):
            part.to(device)
    clock = time.process_time if torch.device(device).type == "cpu" else time.perf_counter
    image = torch.rand(1, 3, image_size, image_size, device=device).requires_grad_(True)
    object_name = (critic.object_names or (OBJECT_NAME,))[0]
    times = []
    for _ in range(repeats + 1):
        start = clock()
        critic.evaluate(image, {object_name: 5}, LOSSES["margin"]).loss.sum().backward()
        if image.is_cuda:
            torch.cuda.synchronize()
        times.append(clock() - start)
    return sorted(times[1:])[repeats // 2]


if __name__ == "__main__":
    sys.exit(main())
