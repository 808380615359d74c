"""Training losses of the detectors on a batch of labelled images."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from countgen.benchmarks.miniature.detector_data import Batch
from countgen.benchmarks.miniature.training import autocast
from countgen.critics.detectors.centernet import encode_size
from countgen.critics.networks.density import DensityCounter
from countgen.critics.networks.hourglass import STRIDE

Loss = Callable[[Batch], Tensor]


def yolo_loss(network: Any) -> Loss:
    """Return Ultralytics' own v8 loss (boxes, classes, distribution focal) with its default weights."""
    from ultralytics.utils.loss import v8DetectionLoss

    network.args = SimpleNamespace(box=7.5, cls=0.5, dfl=1.5)
    criterion = v8DetectionLoss(network)

    def loss(batch: Batch) -> Tensor:
        size = batch.images.shape[-1]
        row, _ = batch.present.nonzero(as_tuple=True)
        boxes = batch.boxes[batch.present].clamp(0, size) / size
        centre, extent = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        targets = {
            "batch_idx": row.float(),
            "cls": batch.labels[batch.present].float(),
            "bboxes": torch.cat([centre, extent], 1),
        }
        parts, _ = criterion(network(batch.images), targets)
        total: Tensor = parts.sum() / len(batch.images)
        return total

    return loss


def fcos_loss(network: nn.Module) -> Loss:
    """Return torchvision's own loss: focal for classes, GIoU for boxes, cross entropy for centreness."""

    def loss(batch: Batch) -> Tensor:
        targets = [
            {"boxes": boxes[present], "labels": labels[present]}
            for boxes, labels, present in zip(batch.boxes, batch.labels, batch.present, strict=True)
        ]
        parts = network(list(batch.images), targets)
        return torch.stack(list(parts.values())).sum()

    return loss


def _centres(batch: Batch) -> Tensor:
    return (batch.boxes[..., :2] + batch.boxes[..., 2:]) / 2 / STRIDE


def _squared_distances(points: Tensor, rows: int, columns: int) -> Tensor:
    """Return the squared distances (B, N, rows, columns) of all cells to points (B, N, 2)."""
    across = torch.arange(columns, device=points.device) - points[..., :1]
    down = torch.arange(rows, device=points.device) - points[..., 1:]
    return across[:, :, None, :].square() + down[:, :, :, None].square()


def centre_map(batch: Batch, num_classes: int, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Return the target heat map (B, C, rows, columns) and the cells of the centres (B, N, 2).

    The heat map has a Gaussian around the cell of each centre, exactly 1 there, whose radius grows with the object, as
    in CenterNet.
    """
    limit = torch.tensor([columns - 1, rows - 1], device=batch.boxes.device)
    cell = _centres(batch).floor().clamp(min=0).minimum(limit)
    side = (batch.boxes[..., 2:] - batch.boxes[..., :2]).clamp(min=1).prod(-1).sqrt() / STRIDE
    sigma = (2 * 0.17 * side + 1) / 6
    distance = _squared_distances(cell, rows, columns)
    bells = torch.exp(-distance / (2 * sigma.square())[..., None, None]) * batch.present[..., None, None]
    heat = bells.new_zeros(len(cell), num_classes, rows * columns)
    owner = batch.labels[..., None].expand(-1, -1, rows * columns)
    heat.scatter_reduce_(1, owner, bells.flatten(2), "amax")
    return heat.unflatten(2, (rows, columns)), cell


def heatmap_loss(network: nn.Module) -> Loss:
    """Return the loss of CenterNet: penalty-reduced focal loss on centres, L1 on log size and offset.

    Source: Zhou et al. 2019, equations 1 to 3.
    """

    def loss(batch: Batch) -> Tensor:
        with autocast(batch.images.device.type):
            output = network(batch.images)
        logits, log_size, offset = (part.float() for part in output)
        heat, cell = centre_map(batch, *logits.shape[1:])
        probability = logits.sigmoid()
        missed = (1 - probability).square() * F.softplus(-logits) * (heat == 1)
        false = (1 - heat).pow(4) * probability.square() * F.softplus(logits) * (heat < 1)
        total = (missed + false).sum()
        index = (cell[..., 1] * logits.shape[-1] + cell[..., 0]).long()[:, None].expand(-1, 2, -1)
        for maps, expected in ((log_size, encode_size(batch.boxes)), (offset, _centres(batch) - cell - 0.5)):
            predicted = maps.flatten(2).gather(2, index).transpose(1, 2)
            total = total + ((predicted - expected).abs() * batch.present[..., None]).sum()
        return total / batch.present.sum().clamp(min=1)

    return loss


def density_loss(network: DensityCounter) -> Loss:
    """Return the loss of the density counter: Poisson likelihood of the maps plus absolute error of the counts.

    The gradient of the likelihood with respect to the log density is predicted minus expected density. It does not
    vanish in nearly empty maps, unlike that of a squared error.
    """

    def loss(batch: Batch) -> Tensor:
        with autocast(batch.images.device.type):
            logarithm = network.log_density(batch.images)
        predicted = logarithm.exp()
        rows, columns = predicted.shape[-2:]
        bells = torch.exp(-_squared_distances(_centres(batch) - 0.5, rows, columns) / 2)
        # Every object has a mass of exactly 1, also at the border.
        bells = bells / bells.sum((2, 3), keepdim=True).clamp(min=1e-6) * batch.present[..., None, None]
        expected = torch.zeros_like(predicted).flatten(2)
        owner = batch.labels[..., None].expand(-1, -1, rows * columns)
        expected.scatter_add_(1, owner, bells.flatten(2))
        map_loss = (predicted.flatten(2) - expected * logarithm.flatten(2)).sum((1, 2)).mean()
        count_loss = (predicted.sum((2, 3)) - batch.counts()).abs().sum(1).mean()
        return map_loss + 0.2 * count_loss

    return loss
