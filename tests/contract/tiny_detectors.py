"""One small untrained detector of each architecture, from its configuration."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from countgen import miniature
from countgen.critics import Critic
from tests.contract.pictures import CLASSES, SIDE, enliven

# Ultralytics


def ultralytics_model(family: str, config: str, scale: tuple[float, float, int] | None, **head: Any) -> nn.Module:
    from countgen.critics.ultralytics_files import import_ultralytics

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


def yolo(config: str, scale: tuple[float, float, int] | None = (0.33, 0.125, 1024)) -> Critic:
    from countgen.critics.detectors.yolo import YoloCritic

    model = ultralytics_model("DetectionModel", config, scale)
    # The last convolution of the class branches: a probability that rounds to 1 would hide which class is best.
    return enliven(YoloCritic(model, CLASSES, name="yolo", image_size=SIDE), r"cv3\.\d\.2\.weight", 0.3)


def yolo_with_text(family: str, config: str) -> Critic:
    from countgen.critics.detectors.yolo_world import YoloWorldCritic

    generator = torch.Generator().manual_seed(0)
    embeddings = {name: normalize(torch.randn(512, generator=generator), dim=0) for name in CLASSES}
    model = ultralytics_model(family, config, (0.33, 0.125, 1024))
    return enliven(YoloWorldCritic(model, embeddings, name="yolo_world", image_size=SIDE))


def ultralytics_rtdetr() -> Critic:
    from countgen.critics.detectors.ultralytics_rtdetr import RTDETRCritic

    head = {"hidden": 64, "queries": 60, "points": 4, "heads": 4, "layers": 2, "feed_forward": 64}
    model = ultralytics_model("RTDETRDetectionModel", "v8/yolov8-rtdetr.yaml", (0.33, 0.125, 1024), **head)
    return enliven(RTDETRCritic(model, CLASSES, name="ultralytics_rtdetr", image_size=SIDE))


# transformers

LABELS = {"id2label": dict(enumerate(CLASSES)), "label2id": {name: index for index, name in enumerate(CLASSES)}}


def owl(family: str) -> Critic:
    from transformers import (
        AutoConfig,
        AutoModelForZeroShotObjectDetection,
        AutoTokenizer,
        Owlv2ImageProcessor,
        OwlViTImageProcessor,
    )

    from countgen.critics.detectors.owl import OwlCritic

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


def grounding_dino(folder: Path) -> Critic:
    from transformers import (
        BertTokenizer,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
    )

    from countgen.critics.detectors.grounding_dino import GroundingDinoCritic

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


def sam3() -> Critic:
    from transformers import AutoTokenizer, Sam3Config, Sam3ImageProcessor, Sam3Model

    from countgen.critics.detectors.sam3 import Sam3Critic

    tokenizer = AutoTokenizer.from_pretrained(miniature.FOLDER / "mini-sdxl-turbo" / "tokenizer")
    heads = {"hidden_size": 32, "num_attention_heads": 2}
    layers = heads | {"intermediate_size": 64}
    text = {"vocab_size": len(tokenizer), "projection_dim": 32, "num_hidden_layers": 1, "max_position_embeddings": 32}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    windows = {"window_size": 4, "global_attn_indexes": [1], "image_size": 112, "pretrain_image_size": 56}
    vision = layers | windows | {"model_type": "sam3_vit_model", "num_hidden_layers": 2, "patch_size": 14}
    sizes = {"fpn_hidden_size": 32, "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]]}
    config = Sam3Config(
        vision_config=sizes | {"backbone_config": vision},
        text_config=layers | text | ends,
        geometry_encoder_config=layers | {"num_layers": 1},
        detr_encoder_config=layers | {"num_layers": 1},
        detr_decoder_config=layers | {"num_layers": 2, "num_queries": 40},
        mask_decoder_config=heads,
    )
    torch.manual_seed(0)
    processor = Sam3ImageProcessor(size={"height": 112, "width": 112})
    layers_that_read = r"(vision_encoder|detr_(en|de)coder|dot_product).*(proj|fc|conv|embeddings).*weight"
    return enliven(Sam3Critic(Sam3Model(config), processor, tokenizer, name="sam3"), layers_that_read, 6.0)


def detr() -> Critic:
    from transformers import DetrConfig, DetrForObjectDetection, DetrImageProcessor

    from countgen.critics.detectors.detr import DetrCritic

    backbone = _resnet() | {"model_type": "resnet", "out_features": ["stage4"]}
    config = DetrConfig(backbone_config=backbone, num_queries=40, **_encoder_and_decoder(), **LABELS)
    torch.manual_seed(0)
    processor = DetrImageProcessor(size={"shortest_edge": SIDE, "longest_edge": 192})
    return enliven(DetrCritic(DetrForObjectDetection(config), processor, name="detr"), "class_labels_classifier")


def real_time_detr(family: str) -> Critic:
    from transformers import AutoConfig, AutoModelForObjectDetection, RTDetrImageProcessor

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
    return enliven(critic, "encoder_attn", {"rt_detr": 30.0, "rt_detr_v2": 30.0, "d_fine": 8.0}[family])


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
                for i, o in pairwise(widths)
            )
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"0": self.layers(images)}


def torchvision_detector(family: str) -> Critic:
    from torchvision.models import detection
    from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
    from torchvision.models.detection.ssd import SSD
    from torchvision.ops import MultiScaleRoIAlign

    from countgen.critics.detectors.torchvision import TorchvisionCritic

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
        boxes = DefaultBoxGenerator([[1]], scales=[0.2, 0.38])
        backbone = OneMap()
        backbone.out_channels = [backbone.out_channels]
        model = SSD(backbone, boxes, (SIDE, SIDE), classes, score_thresh=0.0, topk_candidates=1000, **many)
        sharpen, factor = "classification_head", 2.0
    else:
        single = AnchorGenerator(sizes=((16,),), aspect_ratios=((1.0,),)) if family == "FCOS" else anchors
        builder = getattr(detection, family)
        model = builder(OneMap(), classes, anchor_generator=single, score_thresh=0.0, **sizes, **many)
        sharpen, factor = "cls_logits.weight", 10.0 if family == "FCOS" else 1000.0
    critic = TorchvisionCritic(model, ("__background__", *CLASSES), name="torchvision")
    return enliven(critic, sharpen, factor)
