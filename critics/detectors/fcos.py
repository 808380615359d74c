"""FCOS (Tian et al. 2019) with a small feature pyramid: torchvision's anchor-free detector as a critic."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork

from countgen.critics.base import Critic, resized, scale_boxes
from countgen.critics.candidates import Proposals
from countgen.critics.networks.hourglass import convolution
from countgen.critics.soft_indicator import geometric_mean_logits
from countgen.critics.weights import restore

IMAGE_SIZE = 128
"""Height and width the detector sees; other images are stretched to it, as torchvision's fixed size does."""
_MEAN, _STD = 0.45, 0.25
_PYRAMID_CHANNELS = 64


def build(num_classes: int) -> FCOS:
    """Return torchvision's FCOS over a backbone of 1.2 M parameters, strides 4, 8 and 16, with fresh weights."""
    detector = FCOS(
        _Pyramid(),
        num_classes,
        anchor_generator=AnchorGenerator(sizes=((8,), (16,), (32,)), aspect_ratios=((1.0,),) * 3),
        score_thresh=0.05,
        nms_thresh=0.5,
        detections_per_img=60,
    )
    size = (IMAGE_SIZE, IMAGE_SIZE)
    detector.transform = GeneralizedRCNNTransform(IMAGE_SIZE, IMAGE_SIZE, [_MEAN] * 3, [_STD] * 3, fixed_size=size)
    return detector


class FCOSCritic(Critic):
    """Counts with FCOS, differentiably.

    The logit of a proposal is that of FCOS's own score, sqrt(class probability * centreness), so the
    hard count at a threshold is what torchvision's post-processing keeps above it.
    """

    family = "fcos"
    one_class_per_box = False  # as in torchvision, every class of a location has a score of its own

    def propose(self, images: Tensor, object_names: Sequence[str]) -> Proposals:
        """See `Critic.propose`; boxes are clipped to the image."""
        columns = tuple(self.column(name) for name in object_names)
        height, width = images.shape[-2:]
        pixels = resized((images - _MEAN) / _STD, IMAGE_SIZE, IMAGE_SIZE)
        features = list(self.model.backbone(pixels).values())
        outputs = self.model.head(features)
        batch = ImageList(pixels, [(IMAGE_SIZE, IMAGE_SIZE)] * len(pixels))
        anchors = torch.stack(self.model.anchor_generator(batch, features))
        boxes = self.model.box_coder.decode(outputs["bbox_regression"], anchors).clamp(0, IMAGE_SIZE)
        boxes = scale_boxes(boxes, width / IMAGE_SIZE, height / IMAGE_SIZE)
        logits = geometric_mean_logits(outputs["cls_logits"], outputs["bbox_ctrness"])
        return Proposals(boxes, logits, columns)


load = partial(restore, FCOSCritic, build)


class _Pyramid(nn.Module):
    """(B, 3, H, W) to three maps of 64 channels at strides 4, 8 and 16."""

    def __init__(self) -> None:
        super().__init__()
        # The short names are those of the published state dict.
        self.s1 = nn.Sequential(convolution(3, 24, 2), convolution(24, 32))
        self.s2 = nn.Sequential(convolution(32, 64, 2), convolution(64, 64), convolution(64, 64))
        self.s3 = nn.Sequential(convolution(64, 96, 2), convolution(96, 96), convolution(96, 96))
        self.s4 = nn.Sequential(convolution(96, 128, 2), convolution(128, 128), convolution(128, 128))
        self.fpn = FeaturePyramidNetwork([64, 96, 128], _PYRAMID_CHANNELS)
        self.out_channels = _PYRAMID_CHANNELS

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        fine = self.s2(self.s1(images))
        middle = self.s3(fine)
        maps: dict[str, Tensor] = self.fpn(OrderedDict([("0", fine), ("1", middle), ("2", self.s4(middle))]))
        return maps
