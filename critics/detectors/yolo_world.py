"""YOLO-World and YOLOE as differentiable critics of the objects whose text embeddings they are given.

Ultralytics is licensed under AGPL-3.0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from countgen.critics.detectors.yolo import YoloCritic
from countgen.critics.ultralytics_files import read


def load(
    *,
    weights: str | Path,
    embeddings: Mapping[str, Tensor] | str | Path | None = None,
    config: str | Path | None = None,
    revision: str | None = None,
    trust_checkpoint: bool = False,
    device: str | torch.device = "cpu",
) -> YoloWorldCritic:
    """Load a YOLO-World or YOLOE; the other options are those of `countgen.critics.ultralytics_files.read`.

    Args:
        embeddings: text embedding (512,) of each object name, or a safetensors file that holds them: for YOLO-World
            the normalised `text_embeds` of CLIP ViT-B/32 for the bare names, for YOLOE its own text encoder's. By
            default the classes that were saved into the checkpoint.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: another detector, or embeddings of another shape.
    """
    checkpoint = read("yolo_world", weights, config, revision, trust_checkpoint=trust_checkpoint)
    model = checkpoint.model
    if embeddings is None:
        embeddings = _saved_embeddings(model, checkpoint.object_names)
    else:
        if not isinstance(embeddings, Mapping):
            if not Path(embeddings).is_file():
                raise FileNotFoundError(f"no such file: {embeddings}; give a safetensors file of text embeddings")
            embeddings = load_file(embeddings)
        embeddings = _adapted(model, embeddings)
    return YoloWorldCritic(model.to(device), embeddings, name=checkpoint.name, **checkpoint.settings)


def _adapted(model: Any, embeddings: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return text embeddings as the head compares them: YOLOE passes them through a small network of its own."""
    adapt = getattr(model.model[-1], "get_tpe", None)
    if adapt is None:
        return dict(embeddings)
    with torch.no_grad():
        return {name: adapt(row.float()[None, None])[0, 0] for name, row in embeddings.items()}


def _saved_embeddings(model: nn.Module, names: Sequence[str]) -> dict[str, Tensor]:
    saved = getattr(model, "pe", getattr(model, "txt_feats", None))
    if saved is None or saved.shape[1] != len(names):
        raise ValueError("the checkpoint holds no text embeddings for its classes; give embeddings=")
    return dict(zip(names, saved[0].detach(), strict=True))


class YoloWorldCritic(YoloCritic):
    """A YOLO whose classes are text embeddings; only the classes asked for are scored."""

    heads = ("WorldDetect", "YOLOEDetect")

    def __init__(self, model: Any, embeddings: Mapping[str, Tensor], *, name: str = "", **settings: Any) -> None:
        """Take what `YoloCritic` takes, with the embedding that the head compares for each object name."""
        super().__init__(model, tuple(embeddings), name=name, **settings)
        size = self._head.cv3[-1][-1].out_channels
        wrong = {name: tuple(row.shape) for name, row in embeddings.items() if row.shape != (size,)}
        if not embeddings or wrong:
            raise ValueError(f"embeddings must hold one vector of {size} per object name, got {wrong or 'none'}")
        device = next(model.parameters()).device
        self.embeddings = torch.stack([row.to(device).float() for row in embeddings.values()])
        # YOLOE takes adapted embeddings where visual prompts go in, and takes them as they are.
        self._reads_text = "txt_feats" if type(self._head).__name__ == "WorldDetect" else "vpe"

    def _run(self, squares: Tensor) -> tuple[Tensor, dict[str, Any]]:
        text = self.embeddings[None].to(squares.dtype)
        self._head.nc = len(self.embeddings)
        return self.model.predict(squares, **{self._reads_text: text})
