"""Every critic, tiny: the miniature's trained ones, and one untrained detector of each other architecture."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml
from torch import Tensor, nn
from torch.nn.functional import normalize
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.ops import MultiScaleRoIAlign

from countgen import miniature
from countgen.critics import Critic, from_module, load
from tests.contract.pictures import CLASSES, SIDE, enliven

TOKENIZER = miniature.FOLDER / "mini-sdxl-turbo" / "tokenizer"
LABELS = {"id2label": dict(enumerate(CLASSES)), "label2id": {name: index for index, name in enumerate(CLASSES)}}
NARROW = (0.33, 0.125, 1024)
"""Depth, width and most channels of Ultralytics' detectors."""


def ultralytics_model(family: str, config: str, scale: tuple[float, float, int] | None, **head: Any) -> nn.Module:
    from countgen.critics.ultralytics_files import import_ultralytics

    ultralytics = import_ultralytics()
    folder = Path(ultralytics.__file__).parent / "cfg" / "models"
    architecture = yaml.safe_load((folder / config).read_text())
    if scale:
        architecture |= {"scales": {"t": list(scale)}, "scale": "t"}
    if head:
        architecture["head"][-1][3] = ["nc", *head.values()]
    torch.manual_seed(0)
    return getattr(ultralytics.nn.tasks, family)(architecture, nc=len(CLASSES), verbose=False)


def yolo(config: str, scale: tuple[float, float, int] | None = NARROW) -> Critic:
    from countgen.critics.detectors.yolo import YoloCritic

    model = ultralytics_model("DetectionModel", config, scale)
    # The last convolution of the class branches: a probability that rounds to 1 would hide which class is best.
    return enliven(YoloCritic(model, CLASSES, name="yolo", image_size=SIDE), r"cv3\.\d\.2\.weight", 0.3)


def yolo_with_text(family: str, config: str) -> Critic:
    from countgen.critics.detectors.yolo_world import YoloWorldCritic

    generator = torch.Generator().manual_seed(0)
    embeddings = {name: normalize(torch.randn(512, generator=generator), dim=0) for name in CLASSES}
    model = ultralytics_model(family, config, NARROW)
    return enliven(YoloWorldCritic(model, embeddings, name="yolo_world", image_size=SIDE))


def ultralytics_rtdetr() -> Critic:
    from countgen.critics.detectors.ultralytics_rtdetr import RTDETRCritic

    head = {"hidden": 64, "queries": 60, "points": 4, "heads": 4, "layers": 2, "feed_forward": 64}
    model = ultralytics_model("RTDETRDetectionModel", "v8/yolov8-rtdetr.yaml", NARROW, **head)
    return enliven(RTDETRCritic(model, CLASSES, name="ultralytics_rtdetr", image_size=SIDE))


def write_checkpoint(critic: Any, path: Path) -> Path:
    """Write a critic's network as Ultralytics writes it, the whole module in a pickle, and return the path."""
    model = copy.deepcopy(critic.model)
    model.names, model.task = dict(enumerate(critic.object_names)), "detect"
    model.args = {"task": "detect", "imgsz": critic.settings.image_size}
    head = type(model.model[-1]).__name__
    if head in ("WorldDetect", "YOLOEDetect"):
        setattr(model, "txt_feats" if head == "WorldDetect" else "pe", critic.embeddings[None])
    torch.save({"epoch": -1, "model": model, "ema": None, "train_args": model.args, "date": "2026-01-01"}, path)
    return path


def owl(family: str) -> Critic:
    from countgen.critics.detectors.owl import OwlCritic

    tokenizer = transformers.AutoTokenizer.from_pretrained(TOKENIZER)
    layers = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = layers | ends | {"vocab_size": len(tokenizer), "max_position_embeddings": 16, "pad_token_id": 0}
    vision = layers | {"image_size": 96, "patch_size": 12}
    config = transformers.AutoConfig.for_model(family, text_config=text, vision_config=vision, projection_dim=32)
    processors = {"owlv2": transformers.Owlv2ImageProcessor, "owlvit": transformers.OwlViTImageProcessor}
    processor = processors[family](size={"height": 96, "width": 96})
    torch.manual_seed(0)
    model = transformers.AutoModelForZeroShotObjectDetection.from_config(config)
    return enliven(OwlCritic(model, processor, tokenizer, name="owl"), "logit_s", 0.1)


def grounding_dino() -> Critic:
    from countgen.critics.detectors.grounding_dino import GroundingDinoCritic

    # The model knows the special tokens of BERT by their numbers.
    words = [f"[unused{index}]" for index in range(1100)]
    for index, word in {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: "."}.items():
        words[index] = word
    words[1050 : 1050 + len(CLASSES)] = CLASSES
    swin = {"image_size": SIDE, "embed_dim": 16, "depths": [1] * 4, "num_heads": [1, 1, 2, 2], "window_size": 4}
    bert = {"vocab_size": len(words), "hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 64}
    config = transformers.GroundingDinoConfig(
        backbone_config={"model_type": "swin", "out_features": ["stage2", "stage3", "stage4"]} | swin,
        text_config={"model_type": "bert", "num_attention_heads": 2} | bert,
        num_queries=40,
        **_encoder_and_decoder(),
    )
    torch.manual_seed(0)
    model = transformers.GroundingDinoForObjectDetection(config)
    processor = transformers.GroundingDinoImageProcessor(size={"shortest_edge": SIDE, "longest_edge": 192})
    tokenizer = transformers.BertTokenizer(vocab={word: index for index, word in enumerate(words)})
    return enliven(GroundingDinoCritic(model, processor, tokenizer, name="grounding_dino"), "encoder_attn", 8.0)


def sam3() -> Critic:
    from countgen.critics.detectors.sam3 import Sam3Critic

    tokenizer = transformers.AutoTokenizer.from_pretrained(TOKENIZER)
    heads = {"hidden_size": 32, "num_attention_heads": 2}
    layers = heads | {"intermediate_size": 64}
    text = {"vocab_size": len(tokenizer), "projection_dim": 32, "num_hidden_layers": 1, "max_position_embeddings": 32}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    windows = {"window_size": 4, "global_attn_indexes": [1], "image_size": 112, "pretrain_image_size": 56}
    vision = layers | windows | {"model_type": "sam3_vit_model", "num_hidden_layers": 2, "patch_size": 14}
    sizes = {"fpn_hidden_size": 32, "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]]}
    config = transformers.Sam3Config(
        vision_config=sizes | {"backbone_config": vision},
        text_config=layers | text | ends,
        geometry_encoder_config=layers | {"num_layers": 1},
        detr_encoder_config=layers | {"num_layers": 1},
        detr_decoder_config=layers | {"num_layers": 2, "num_queries": 40},
        mask_decoder_config=heads,
    )
    torch.manual_seed(0)
    model = transformers.Sam3Model(config)
    processor = transformers.Sam3ImageProcessor(size={"height": 112, "width": 112})
    layers_that_read = r"(vision_encoder|detr_(en|de)coder|dot_product).*(proj|fc|conv|embeddings).*weight"
    return enliven(Sam3Critic(model, processor, tokenizer, name="sam3"), layers_that_read, 6.0)


def detr() -> Critic:
    from countgen.critics.detectors.detr import DetrCritic

    backbone = _resnet() | {"model_type": "resnet", "out_features": ["stage4"]}
    config = transformers.DetrConfig(backbone_config=backbone, num_queries=40, **_encoder_and_decoder(), **LABELS)
    torch.manual_seed(0)
    model = transformers.DetrForObjectDetection(config)
    processor = transformers.DetrImageProcessor(size={"shortest_edge": SIDE, "longest_edge": 192})
    return enliven(DetrCritic(model, processor, name="detr"), "class_labels_classifier")


def real_time_detr(family: str) -> Critic:
    from countgen.critics.detectors.detr import DetrCritic

    stages = {"out_features": ["stage2", "stage3", "stage4"]}
    backbone = _resnet() | stages | {"model_type": "rt_detr_resnet"}
    points: dict[str, Any] = {"decoder_n_points": 2}
    if family == "d_fine":
        widths = {"stage_in_channels": [16, 16, 16, 24], "stage_out_channels": [16, 16, 24, 32]}
        ones = {"stage_num_blocks": [1] * 4, "stage_numb_of_layers": [1] * 4, "stage_mid_channels": [8] * 4}
        stem = {"stem_channels": [3, 8, 16], "hidden_sizes": [16, 16, 24, 32], "embedding_size": 16}
        backbone = {"model_type": "hgnet_v2"} | stages | widths | ones | stem
        points = {"decoder_n_points": [2, 2, 2]}
    config = transformers.AutoConfig.for_model(
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
    model = transformers.AutoModelForObjectDetection.from_config(config)
    critic = DetrCritic(model, transformers.RTDetrImageProcessor(size={"height": SIDE, "width": SIDE}), name="detr")
    # Their content queries are detached: only what cross-attention reads carries gradient.
    return enliven(critic, "encoder_attn", 8.0 if family == "d_fine" else 30.0)


def _resnet() -> dict[str, Any]:
    return {"embedding_size": 16, "hidden_sizes": [16, 16, 24, 32], "depths": [1] * 4, "layer_type": "basic"}


def _encoder_and_decoder() -> dict[str, int]:
    sides = ("encoder", "decoder")
    sizes = {f"{side}_ffn_dim": 64 for side in sides} | {f"{side}_attention_heads": 2 for side in sides}
    return sizes | {"d_model": 32, "encoder_layers": 1, "decoder_layers": 2}


class OneMap(nn.Module):
    """A backbone with one feature map, of stride 8."""

    out_channels: Any = 32

    def __init__(self) -> None:
        super().__init__()
        layers = (
            (nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())
            for inputs, outputs in pairwise((3, 16, 24, 32))
        )
        self.layers = nn.Sequential(*(layer for group in layers for layer in group))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"0": self.layers(images)}


def torchvision_detector(family: str) -> Critic:
    from countgen.critics.detectors.torchvision import TorchvisionCritic

    torch.manual_seed(0)
    classes, sizes, many = len(CLASSES) + 1, {"min_size": SIDE, "max_size": 192}, {"detections_per_img": 2000}
    anchors = AnchorGenerator(sizes=((16,) if family == "FCOS" else (16, 32),), aspect_ratios=((1.0,),))
    if family == "FasterRCNN":
        pooler = MultiScaleRoIAlign(["0"], output_size=3, sampling_ratio=2)
        model = detection.FasterRCNN(
            OneMap(), classes, rpn_anchor_generator=anchors, box_roi_pool=pooler, box_detections_per_img=2000, **sizes
        )
        sharpen, factor, model.roi_heads.score_thresh = "cls_score", 10.0, 0.0
    elif family == "SSD":
        boxes = DefaultBoxGenerator([[1]], scales=[0.2, 0.38])
        backbone = OneMap()
        backbone.out_channels = [backbone.out_channels]
        model = SSD(backbone, boxes, (SIDE, SIDE), classes, score_thresh=0.0, topk_candidates=1000, **many)
        sharpen, factor = "classification_head", 2.0
    else:
        builder = getattr(detection, family)
        model = builder(OneMap(), classes, anchor_generator=anchors, score_thresh=0.0, **sizes, **many)
        sharpen, factor = "cls_logits.weight", 10.0 if family == "FCOS" else 1000.0
    critic = TorchvisionCritic(model, ("__background__", *CLASSES), name="torchvision")
    return enliven(critic, sharpen, factor)


def as_a_user_gives_it(critic: Any) -> Critic:
    """Return a critic of torchvision's module alone, with its own threshold and suppression."""
    settings = {"threshold": critic.settings.threshold, "nms_iou": critic.settings.nms_iou}
    return from_module(critic.model, ("__background__", *CLASSES), max_count=2000, **settings)


def dynamic_scale() -> Critic:
    from countgen.critics.dynamic_scale import DynamicScaleCritic

    return DynamicScaleCritic(tiny("miniature-heatmap"), tiny("miniature-density"))


BUILDERS: dict[str, Callable[[], Critic]] = {
    **{name: partial(miniature.load_detector, name) for name in miniature.DETECTORS},
    "yolov8": partial(yolo, "v8/yolov8.yaml"),
    "yolov9": partial(yolo, "v9/yolov9t.yaml", None),
    "yolov10": partial(yolo, "v10/yolov10n.yaml"),
    "yolo12": partial(yolo, "12/yolo12.yaml", (0.33, 0.25, 256)),
    "yolo26": partial(yolo, "26/yolo26.yaml"),
    "yolo-world": partial(yolo_with_text, "WorldModel", "v8/yolov8-worldv2.yaml"),
    "yoloe": partial(yolo_with_text, "YOLOEModel", "v8/yoloe-v8.yaml"),
    "ultralytics-rtdetr": ultralytics_rtdetr,
    "owlv2": partial(owl, "owlv2"),
    "owlvit": partial(owl, "owlvit"),
    "grounding-dino": grounding_dino,
    "sam3": sam3,
    "detr": detr,
    "rtdetr": partial(real_time_detr, "rt_detr"),
    "rtdetr-v2": partial(real_time_detr, "rt_detr_v2"),
    "dfine": partial(real_time_detr, "d_fine"),
    "fasterrcnn": partial(torchvision_detector, "FasterRCNN"),
    "retinanet": partial(torchvision_detector, "RetinaNet"),
    "fcos": partial(torchvision_detector, "FCOS"),
    "ssd": partial(torchvision_detector, "SSD"),
    "module": lambda: as_a_user_gives_it(torchvision_detector("RetinaNet")),
    "nanodet": partial(load, "nanodet", image_size=SIDE),
    "dynamic-scale": dynamic_scale,
}
ULTRALYTICS = ("yolov8", "yolov9", "yolov10", "yolo12", "yolo26", "yolo-world", "yoloe")
"""Ultralytics' detectors with non-maximum suppression."""
PARTIAL = ("grounding-dino", "sam3", "rtdetr", "rtdetr-v2", "dfine", "fasterrcnn")
"""Detectors that detach where they look next: their gradient leaves out what moving there would change."""
ONE_OF_A_KIND = (
    *("miniature-yolo", "yolo-world", "ultralytics-rtdetr", "owlv2", "grounding-dino", "sam3", "detr", "rtdetr"),
    *("fasterrcnn", "ssd", "fcos", "nanodet", "miniature-heatmap", "miniature-density", "dynamic-scale"),
)
"""One critic of each class, and of each architecture that a class reads in a way of its own."""


@cache
def tiny(name: str) -> Critic:
    """Build a critic of `BUILDERS`, once; no test changes it."""
    return BUILDERS[name]()
