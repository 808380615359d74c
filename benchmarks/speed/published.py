"""Write a model of random weights into a hub's cache, in the file layout of its published repository."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from countgen import backbones
from countgen.backbones.loading import SINGLE_FILE, at_revision
from countgen.benchmarks.speed import tokenizers
from countgen.benchmarks.speed.models import build, build_critic
from countgen.critics.ultralytics_files import PRESETS as CHECKPOINTS
from countgen.critics.vocabulary import COCO_CLASSES
from countgen.detector_choice import COCO

MAIN = "0" * 40
"""The commit of a repository that is read at its main branch."""
TINY_JUDGE = "torchvision:ssdlite320_mobilenet_v3_large"
SHARDS = {
    "pixart-dmd": {"text_encoder": 4},
    "pixart-alpha": {"text_encoder": 4},
    "pixart-sigma": {"text_encoder": 2},
    "flux-schnell": {"transformer": 3, "text_encoder_2": 2},
    "sd-3-medium": {"text_encoder_3": 2},
    "sd-3.5-turbo": {"transformer": 2, "text_encoder_3": 2},
    "sana-sprint": {"text_encoder": 2},
    "sana-sprint-1.6b": {"text_encoder": 2},
    "z-image-turbo": {"transformer": 3, "text_encoder": 3},
    "flux2-klein": {"text_encoder": 2},
}
"""Files that the weights of a component are published in, where there are several."""


@dataclass(frozen=True)
class Home:
    """The folders that the libraries read models from.

    Attributes:
        folder: of both.
    """

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """The variables that point there, and switch the hub off."""
        return {
            "HF_HOME": str(self.folder / "huggingface"),
            "TORCH_HOME": str(self.folder / "torch"),
            "HF_HUB_OFFLINE": "1",
        }

    def snapshot(self, repository: str, revision: str | None) -> Path:
        """Return the new folder of a repository's commit, which `refs/main` names."""
        cached = self.folder / "huggingface" / "hub" / f"models--{repository.replace('/', '--')}"
        commit = revision or MAIN
        (cached / "refs").mkdir(parents=True, exist_ok=True)
        (cached / "refs" / "main").write_text(commit)
        folder = cached / "snapshots" / commit
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def link_blobs(self) -> None:
        """Move every file to `blobs` and link to it, as the hub's client does."""
        for file in (self.folder / "huggingface" / "hub").glob("*/snapshots/*/**/*"):
            if file.is_file() and not file.is_symlink():
                snapshots = next(parent for parent in file.parents if parent.name == "snapshots")
                name = hashlib.sha256(str(file.relative_to(snapshots)).encode()).hexdigest()
                blob = snapshots.parent / "blobs" / name
                blob.parent.mkdir(exist_ok=True)
                file.rename(blob)
                file.symlink_to(Path(*[".."] * len(file.parent.relative_to(snapshots.parent).parts), "blobs", name))


def write_model(name: str, size: str, dtype: torch.dtype, home: Home) -> None:
    """Write all repositories that a preset names.

    Args:
        name: of the preset.
        size: "full" or "tiny".
        dtype: of the weights, which are published in float32, float16 or bfloat16.
        home: where they go.
    """
    preset = backbones.presets()[name][1]
    backbone = build(name, size, torch.device("cpu"), dtype).backbone
    pipeline = backbone.pipeline
    folder = home.snapshot(preset.repository, preset.revision)
    for part, component in list(pipeline.components.items()):
        if part.startswith("text_encoder"):
            tokenizer = part.replace("text_encoder", "tokenizer")
            tokenizers.write(component, tokenizer, folder, tiny=size == "tiny")
        if component is not None:
            _save(component, folder / part, preset.variant, SHARDS.get(name, {}).get(part, 1))
    _write_index(pipeline, folder)
    if preset.denoiser is not None:
        place, revision = at_revision(preset.denoiser)
        owner, repository, *file = place.split("/", 2)
        other = home.snapshot(f"{owner}/{repository}", revision)
        if place.endswith(SINGLE_FILE):
            from safetensors.torch import save_file

            save_file(backbone.denoiser.state_dict(), other / file[0])
        else:
            _save(backbone.denoiser, other / "transformer", None, 1)
    for decoder, module in ((preset.vae, pipeline.vae), (preset.tiny_vae, backbone.tiny_vae)):
        if decoder is not None:
            _save(module, home.snapshot(*at_revision(decoder)), None, 1)


def write_detectors(size: str, home: Home) -> tuple[str, str]:
    """Write a critic and a judge as their publishers do, a pickle and a state dict, and return their names.

    At full size they are those that are chosen for COCO's classes.
    """
    from torchvision.models import get_model, get_model_weights

    (critic,), judge = COCO
    if size == "tiny":
        judge = TINY_JUDGE
    repository, _, file = CHECKPOINTS[critic.partition(":")[2]].rpartition("/")
    steering: Any = build_critic(size, torch.device("cpu"))
    steering.model.names = dict(enumerate(COCO_CLASSES))
    contents = {"model": steering.model.half(), "train_args": {"imgsz": steering.settings.image_size}}
    torch.save(contents, home.snapshot(repository, None) / file)
    weights = get_model_weights(judge.partition(":")[2]).DEFAULT
    detector = get_model(
        judge.partition(":")[2], weights=None, weights_backbone=None, num_classes=len(weights.meta["categories"])
    )
    place = home.folder / "torch" / "hub" / "checkpoints" / weights.url.rsplit("/", 1)[-1]
    place.parent.mkdir(parents=True, exist_ok=True)
    torch.save(detector.state_dict(), place)
    return critic, judge


def _save(component: Any, folder: Path, variant: str | None, shards: int) -> None:
    options: dict[str, Any] = {}
    if isinstance(component, nn.Module):
        if variant is not None:
            options["variant"] = variant
        if shards > 1:
            weights = sum(tensor.nbytes for tensor in component.state_dict().values())
            options["max_shard_size"] = weights // shards + 1
    component.save_pretrained(folder, **options)


def _write_index(pipeline: Any, folder: Path) -> None:
    """Write model_index.json, whose tokenizers the pipeline here does without."""
    index: dict[str, Any] = json.loads(pipeline.to_json_string())
    classes = {"CLIPText": "CLIPTokenizer", "T5": "T5Tokenizer", "Gemma": "GemmaTokenizer", "Qwen": "Qwen2Tokenizer"}
    for part, component in pipeline.components.items():
        if part.startswith("text_encoder"):
            kind = next(name for start, name in classes.items() if type(component).__name__.startswith(start))
            index[part.replace("text_encoder", "tokenizer")] = ["transformers", kind]
    (folder / "model_index.json").write_text(json.dumps(index, indent=2), "utf-8")
