"""Every critic, tiny: the miniature's trained ones, and one of each other architecture from its configuration."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from countgen import miniature
from countgen.miniature.world import OBJECT_NAMES, Scene, load_sprites, render, sample_scenes
from critics import Critic
from critics.base import Critic as Detector

CLASSES = ("apple", "dog", "car", "ball")
"""Of the untrained detectors."""
SIDE = 128

load_sprites = cache(load_sprites)


@cache
def rendered(number: int, seed: int = 0, max_count: int = 10) -> Tensor:
    """Pictures of apples, and of other objects beside them."""
    rng = np.random.default_rng(seed)
    others = sample_scenes(number, rng, max_count=max_count, two_kinds=0)
    scenes = [
        Scene(((0, int(rng.integers(0, max_count // 2))), *scene.groups[:1]), scene.background) for scene in others
    ]
    return render(scenes, load_sprites(), torch.Generator().manual_seed(seed)).images


def only_apples(counts: tuple[int, ...], seed: int = 0) -> Tensor:
    """One picture per count, with nothing but apples."""
    scenes = [Scene(((OBJECT_NAMES.index("apple"), count),), index % 6) for index, count in enumerate(counts)]
    return render(scenes, load_sprites(), torch.Generator().manual_seed(seed)).images


def module_of(critic: Critic) -> nn.Module:
    """The network inside a critic."""
    return next(value for value in vars(critic).values() if isinstance(value, nn.Module))


def enliven(critic: Detector, sharpen: str | None = None, factor: float = 30.0) -> Detector:
    """Give an untrained detector scores that differ from place to place, some of them above its threshold.

    Normalisation layers learn the statistics of pictures; the threshold goes where a few proposals of the
    middle picture lie above it.
    """
    module = module_of(critic)
    images = rendered(8)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if sharpen and sharpen in name:
                parameter *= factor
        norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
        for part in norms:
            part.momentum = None
            part.reset_running_stats()
            part.train()
        critic.propose(images, CLASSES[:1])
        for part in norms:
            part.eval()
        found = critic.candidates(images, CLASSES[:1])[0]
        ranked = found.logits.masked_fill(~found.kept, -math.inf).sort(dim=1, descending=True).values
        rank = min(4, int(found.kept.sum(1).min()) - 2)
        critic.threshold = float((ranked[:, rank] + ranked[:, rank + 1]).div(2).median().sigmoid())
    critic.steepness = 1.0
    return critic


# Ultralytics


def ultralytics_model(family: str, config: str, scale: tuple[float, float, int] | None, **head: Any) -> nn.Module:
    from critics.ultralytics_files import import_ultralytics

    import_ultralytics()
    import ultralytics
    import yaml
    from ultralytics.nn import tasks

    folder = Path(ultralytics.__file__).parent / "cfg" / "models"
    architecture = yaml.safe_load((folder / config).read_text())
    if scale:
        architecture |= {"scales": {"t": list(scale)}, "scale": "t"}
    if head:
        architecture["head"][-1][3] = ["nc", *head.values()]
    torch.manual_seed(0)
    return getattr(tasks, family)(architecture, nc=len(CLASSES), verbose=False)


def yolo(config: str, scale: tuple[float, float, int] | None = (0.33, 0.125, 1024)) -> Detector:
    from critics.detectors.yolo import YoloCritic

    model = ultralytics_model("DetectionModel", config, scale)
    return enliven(YoloCritic(model, CLASSES, name="yolo", image_size=SIDE))


def yolo_with_text(family: str, config: str) -> Detector:
    from critics.detectors.yolo_world import YoloWorldCritic

    generator = torch.Generator().manual_seed(0)
    embeddings = {name: normalize(torch.randn(512, generator=generator), dim=0) for name in CLASSES}
    model = ultralytics_model(family, config, (0.33, 0.125, 1024))
    return enliven(YoloWorldCritic(model, embeddings, name="yolo_world", image_size=SIDE))


def ultralytics_rtdetr() -> Detector:
    from critics.detectors.ultralytics_rtdetr import RTDETRCritic

    head = {"hidden": 64, "queries": 60, "points": 4, "heads": 4, "layers": 2, "feed_forward": 64}
    model = ultralytics_model("RTDETRDetectionModel", "v8/yolov8-rtdetr.yaml", (0.33, 0.125, 1024), **head)
    return enliven(RTDETRCritic(model, CLASSES, name="ultralytics_rtdetr", image_size=SIDE))


# transformers

LABELS = {"id2label": dict(enumerate(CLASSES)), "label2id": {name: index for index, name in enumerate(CLASSES)}}


def owl(family: str) -> Detector:
    from transformers import (
        AutoConfig,
        AutoModelForZeroShotObjectDetection,
        AutoTokenizer,
        Owlv2ImageProcessor,
        OwlViTImageProcessor,
    )

    from critics.detectors.owl import OwlCritic

    tokenizer = AutoTokenizer.from_pretrained(miniature.FOLDER / "mini-sdxl-turbo" / "tokenizer")
    layers = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = layers | ends | {"vocab_size": len(tokenizer), "max_position_embeddings": 16, "pad_token_id": 0}
    vision = layers | {"image_size": 96, "patch_size": 12}
    config = AutoConfig.for_model(family, text_config=text, vision_config=vision, projection_dim=32)
    processor = {"owlv2": Owlv2ImageProcessor, "owlvit": OwlViTImageProcessor}[family]
    torch.manual_seed(0)
    model = AutoModelForZeroShotObjectDetection.from_config(config)
    return enliven(OwlCritic(model, processor(size={"height": 96, "width": 96}), tokenizer, name="owl"), "logit_s", 0.1)


def grounding_dino(folder: Path) -> Detector:
    from transformers import (
        BertTokenizer,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
    )

    from critics.detectors.grounding_dino import GroundingDinoCritic

    # The model knows the special tokens of BERT by their numbers.
    words = [f"[unused{index}]" for index in range(1100)]
    for index, word in {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: "."}.items():
        words[index] = word
    words[1050 : 1050 + len(CLASSES)] = CLASSES
    (folder / "vocab.txt").write_text("\n".join(words))
    swin = {"image_size": SIDE, "embed_dim": 16, "depths": [1] * 4, "num_heads": [1, 1, 2, 2], "window_size": 4}
    bert = {"vocab_size": len(words), "hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 64}
    config = GroundingDinoConfig(
        backbone_config={"model_type": "swin", "out_features": ["stage2", "stage3", "stage4"]} | swin,
        text_config={"model_type": "bert", "num_attention_heads": 2} | bert,
        num_queries=40,
        **_encoder_and_decoder(),
    )
    torch.manual_seed(0)
    model = GroundingDinoForObjectDetection(config)
    processor = GroundingDinoImageProcessor(size={"shortest_edge": SIDE, "longest_edge": 192})
    tokenizer = BertTokenizer.from_pretrained(folder)
    return enliven(GroundingDinoCritic(model, processor, tokenizer, name="grounding_dino"), "encoder_attn", 8.0)


def detr() -> Detector:
    from transformers import DetrConfig, DetrForObjectDetection, DetrImageProcessor

    from critics.detectors.detr import DetrCritic

    backbone = _resnet() | {"model_type": "resnet", "out_features": ["stage4"]}
    config = DetrConfig(backbone_config=backbone, num_queries=40, **_encoder_and_decoder(), **LABELS)
    torch.manual_seed(0)
    processor = DetrImageProcessor(size={"shortest_edge": SIDE, "longest_edge": 192})
    return enliven(DetrCritic(DetrForObjectDetection(config), processor, name="detr"), "class_labels_classifier")


def real_time_detr(family: str) -> Detector:
    from transformers import AutoConfig, AutoModelForObjectDetection, RTDetrImageProcessor

    from critics.detectors.detr import DetrCritic

    stages = {"out_features": ["stage2", "stage3", "stage4"]}
    backbone = _resnet() | stages | {"model_type": "rt_detr_resnet"}
    points: dict[str, Any] = {"decoder_n_points": 2}
    if family == "d_fine":
        widths = {"stage_in_channels": [16, 16, 16, 24], "stage_out_channels": [16, 16, 24, 32]}
        ones = {"stage_num_blocks": [1] * 4, "stage_numb_of_layers": [1] * 4, "stage_mid_channels": [8] * 4}
        stem = {"stem_channels": [3, 8, 16], "hidden_sizes": [16, 16, 24, 32], "embedding_size": 16}
        backbone = {"model_type": "hgnet_v2"} | stages | widths | ones | stem
        points = {"decoder_n_points": [2, 2, 2]}
    config = AutoConfig.for_model(
        family,
        backbone_config=backbone,
        encoder_hidden_dim=32,
        encoder_in_channels=[16, 24, 32],
        decoder_in_channels=[32, 32, 32],
        num_queries=40,
        num_denoising=0,
        **points,
        **_encoder_and_decoder(),
        **LABELS,
    )
    torch.manual_seed(0)
    processor = RTDetrImageProcessor(size={"height": SIDE, "width": SIDE})
    critic = DetrCritic(AutoModelForObjectDetection.from_config(config), processor, name="detr")
    # Their content queries are detached: only what cross-attention reads carries gradient.
    return enliven(critic, "encoder_attn", {"rt_detr": 30.0, "rt_detr_v2": 100.0, "d_fine": 8.0}[family])


def _resnet() -> dict[str, Any]:
    return {"embedding_size": 16, "hidden_sizes": [16, 16, 24, 32], "depths": [1] * 4, "layer_type": "basic"}


def _encoder_and_decoder() -> dict[str, int]:
    sides = ("encoder", "decoder")
    sizes = {f"{side}_ffn_dim": 64 for side in sides} | {f"{side}_attention_heads": 2 for side in sides}
    return sizes | {"d_model": 32, "encoder_layers": 1, "decoder_layers": 2}


# torchvision


class OneMap(nn.Module):
    """A backbone with one feature map, of stride 8."""

    out_channels = 32

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 16, 24, 32)
        self.layers = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(i, o, 3, 2, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU())
                for i, o in zip(widths, widths[1:], strict=False)
            )
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"0": self.layers(images)}


def torchvision_detector(family: str) -> Detector:
    from torchvision.models import detection
    from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
    from torchvision.models.detection.ssd import SSD
    from torchvision.ops import MultiScaleRoIAlign

    from critics.detectors.torchvision import TorchvisionCritic

    torch.manual_seed(0)
    classes = len(CLASSES) + 1
    sizes = {"min_size": SIDE, "max_size": 192}
    many = {"detections_per_img": 2000}
    anchors = AnchorGenerator(sizes=((16, 32),), aspect_ratios=((1.0,),))
    if family == "FasterRCNN":
        pooler = MultiScaleRoIAlign(["0"], output_size=3, sampling_ratio=2)
        model = detection.FasterRCNN(
            OneMap(), classes, rpn_anchor_generator=anchors, box_roi_pool=pooler, box_detections_per_img=2000, **sizes
        )
        sharpen, factor, model.roi_heads.score_thresh = "cls_score", 10.0, 0.0
    elif family == "SSD":
        boxes = DefaultBoxGenerator([[1]], scales=[0.15, 0.3])
        backbone = OneMap()
        backbone.out_channels = [backbone.out_channels]
        model = SSD(backbone, boxes, (SIDE, SIDE), classes, score_thresh=0.0, topk_candidates=1000, **many)
        sharpen, factor = "classification_head", 10.0
    else:
        one = AnchorGenerator(sizes=((16,),), aspect_ratios=((1.0,),)) if family == "FCOS" else anchors
        builder = getattr(detection, family)
        model = builder(OneMap(), classes, anchor_generator=one, score_thresh=0.0, **sizes, **many)
        sharpen, factor = "cls_logits.weight", 10.0 if family == "FCOS" else 1000.0
    critic = TorchvisionCritic(model, ("__background__", *CLASSES), name="torchvision")
    return enliven(critic, sharpen, factor)


BUILDERS: dict[str, Callable[[Path], Critic]] = {
    **{name: lambda _, name=name: miniature.load_detector(name) for name in miniature.DETECTORS},
    "yolov8": lambda _: yolo("v8/yolov8.yaml"),
    "yolov9": lambda _: yolo("v9/yolov9t.yaml", None),
    "yolov10": lambda _: yolo("v10/yolov10n.yaml"),
    "yolo12": lambda _: yolo("12/yolo12.yaml", (0.33, 0.25, 256)),
    "yolo26": lambda _: yolo("26/yolo26.yaml"),
    "yolo-world": lambda _: yolo_with_text("WorldModel", "v8/yolov8-worldv2.yaml"),
    "yoloe": lambda _: yolo_with_text("YOLOEModel", "v8/yoloe-v8.yaml"),
    "ultralytics-rtdetr": lambda _: ultralytics_rtdetr(),
    "owlv2": lambda _: owl("owlv2"),
    "owlvit": lambda _: owl("owlvit"),
    "grounding-dino": grounding_dino,
    "detr": lambda _: detr(),
    "rtdetr": lambda _: real_time_detr("rt_detr"),
    "rtdetr-v2": lambda _: real_time_detr("rt_detr_v2"),
    "dfine": lambda _: real_time_detr("d_fine"),
    "fasterrcnn": lambda _: torchvision_detector("FasterRCNN"),
    "retinanet": lambda _: torchvision_detector("RetinaNet"),
    "fcos": lambda _: torchvision_detector("FCOS"),
    "ssd": lambda _: torchvision_detector("SSD"),
}
PARTIAL = {"grounding-dino", "rtdetr", "rtdetr-v2", "dfine", "fasterrcnn"}
"""Detectors that detach where they look next: their gradient leaves out what moving there would change."""


@pytest.fixture(scope="session")
def critics(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Critic]:
    """Critics by name, each built once; no test changes one."""
    return cache(lambda name: BUILDERS[name](tmp_path_factory.mktemp("detector")))


@pytest.fixture(params=BUILDERS)
def critic(request: pytest.FixtureRequest, critics: Callable[[str], Critic]) -> Critic:
    return critics(request.param)


@pytest.fixture(params=[name for name in BUILDERS if name not in PARTIAL])
def whole_critic(request: pytest.FixtureRequest, critics: Callable[[str], Critic]) -> Critic:
    return critics(request.param)


@pytest.fixture(params=sorted(PARTIAL))
def partial_critic(request: pytest.FixtureRequest, critics: Callable[[str], Critic]) -> Critic:
    return critics(request.param)


@pytest.fixture(params=miniature.DETECTORS)
def trained_critic(request: pytest.FixtureRequest, critics: Callable[[str], Critic]) -> Critic:
    return critics(request.param)


@pytest.fixture(scope="session")
def pictures() -> Callable[..., Tensor]:
    """Rendered pictures of apples and other objects: `pictures(number, seed=0)`."""
    return rendered


@pytest.fixture(scope="session")
def apples() -> Callable[..., Tensor]:
    """Pictures with known counts and nothing but apples: `apples((0, 3, 5), seed=0)`."""
    return only_apples


@pytest.fixture(scope="session")
def network() -> Callable[[Critic], nn.Module]:
    """The network inside a critic."""
    return module_of
