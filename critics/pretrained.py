"""Shared code of the critics built on transformers: read a checkpoint, and prepare images with its processor."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn

from countgen.critics.base import Critic, scale_boxes
from countgen.critics.weights import one_line
from countgen.files.model_folder import check_model_folder

C = TypeVar("C", bound=Critic)

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
"""Files of a repository that transformers reads: configurations, weights, vocabularies and chat templates."""


def locate(weights: str, presets: Mapping[str, str]) -> tuple[str, str | None]:
    """Return the folder or the hub's repository of some weights, and the revision that a preset is read at.

    Args:
        weights: a key of `presets`, a repository's name, or a folder.
        presets: short names of repositories, some with "@" and a revision.

    Raises:
        ValueError: it is neither a folder nor a name that a repository can have.
    """
    preset, _, revision = presets.get(weights, "").partition("@")
    name = preset or str(weights)
    if not _REPOSITORY.fullmatch(name) and not Path(name).is_dir():
        raise ValueError(
            f"there is no folder {name!r}; give one that exists, or a repository as OWNER/NAME"
            f"{', or one of ' * bool(presets)}{', '.join(presets)}"
        )
    return name, revision or None


class Source:
    """A folder with a checkpoint of transformers, checked, from which models, processors and tokenizers are read.

    Args:
        weights, presets: as of `locate`. A repository is downloaded once, unless HF_HUB_OFFLINE is set.
        revision: a branch, tag or commit; None for the repository's main branch.

    Raises:
        ValueError: as `locate`; the repository cannot be downloaded, or its files are not accepted by
            `check_model_folder`.
    """

    def __init__(self, weights: str, presets: Mapping[str, str], revision: str | None) -> None:
        self.name, preset_revision = locate(weights, presets)
        self._weights, self._revision, self._is_preset = weights, revision, weights in presets
        self.folder = Path(self.name)
        if not self.folder.is_dir():
            from huggingface_hub import snapshot_download

            try:
                self.folder = Path(
                    snapshot_download(
                        self.name,
                        revision=revision or preset_revision,
                        allow_patterns=_FILES,
                        ignore_patterns=["*/*"],
                    )
                )
            except Exception as error:  # of the hub's library and of the HTTP library below it
                raise ValueError(
                    f"cannot download {self.name!r}: give a folder, a repository's name"
                    f"{' or one of ' * bool(presets)}{', '.join(presets)}; a repository is downloaded once, unless "
                    f"HF_HUB_OFFLINE is set. The cause: {one_line(error)}"
                ) from error
        check_model_folder(self.folder)

    def read(self, loader: Any, **options: Any) -> Any:
        """Return the result of `loader.from_pretrained`; code in the folder never runs, and pickles are not read.

        Raises:
            ValueError: it cannot be read, or needs a package that is not installed.
        """
        try:
            return loader.from_pretrained(str(self.folder), trust_remote_code=False, local_files_only=True, **options)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except ImportError as error:
            raise ValueError(f"{self.name!r} needs a package that is not installed: {one_line(error)}") from error
        except Exception as error:  # of any type: transformers checks little of what it reads
            reason = one_line(error)
            if "trust_remote_code" in reason:  # transformers advises to run the code
                reason = "it needs code of its own, which never runs; give a model whose class transformers has"
            raise ValueError(f"cannot read {loader.__name__} from {self.name!r}: {reason}") from error

    def read_model(self, loader: Any, *, complete: bool = False, **options: Any) -> Any:
        """Return a model as `read` does, in float32 unless `options` names another `dtype`.

        transformers gives weights that a checkpoint lacks, or names otherwise, random values and a warning: a judge
        would count nonsense.

        Raises:
            ValueError: it cannot be read, or it must be `complete` and weights are missing or of another shape.
        """
        options = {"use_safetensors": True, "dtype": torch.float32} | options
        model, info = self.read(loader, output_loading_info=True, **options)
        lost = sorted({*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])})
        if complete and lost:
            raise ValueError(
                f"{self.name} lacks {len(lost)} weights of {type(model).__name__}, such as {lost[0]}: they would be "
                "random; give the repository or revision that this version of transformers reads"
            )
        return model

    def tried(self, critic: C, device: str | torch.device) -> C:
        """Return the critic of this checkpoint after a forward pass on an empty image, which presets do not need.

        Args:
            critic: made from this checkpoint.
            device: where it runs.

        Raises:
            ValueError: the pass fails, for example because the checkpoint's files contradict each other.
        """
        if not self._is_preset:
            object_name = critic.object_names[0] if critic.object_names else "apple"
            try:
                critic.counts(torch.zeros(1, 3, 64, 64, device=device), [object_name])
            except (MemoryError, torch.OutOfMemoryError):
                raise
            except Exception as error:  # of any type: transformers checks little of what it reads
                raise ValueError(f"{self.name!r} cannot count, its files may not fit: {one_line(error)}") from error
        return critic

    def recorded_as(self, critic_class: type[Critic]) -> str:
        """Return the name in records of a critic of this checkpoint: its kind, its last part, and a given revision."""
        kind, place = critic_class.__module__.rpartition(".")[2], str(self._weights).rstrip("/").rpartition("/")[2]
        return f"{kind}:{place}@{self._revision}" if self._revision else f"{kind}:{place}"


class TextCritic(Critic):
    """A detector of transformers that reads object names as text.

    Attributes:
        model_types: of the configurations that the class reads.
    """

    model_types: tuple[str, ...]

    def __init__(self, model: Any, image_processor: Any, tokenizer: Any, *, name: str) -> None:
        if model.config.model_type not in self.model_types:
            raise ValueError(f"{name} is a {model.config.model_type!r} model; expected {' or '.join(self.model_types)}")
        self.model: Any = model.eval().requires_grad_(False)
        self.image_processor = image_processor
        self.tokenizer = tokenizer
        self.name = name

    @classmethod
    def read(cls, source: Source, loader: Any, device: str | torch.device, **options: Any) -> Self:
        """Return the critic of a checkpoint; the options are those of `Source.read_model`."""
        from transformers import AutoImageProcessor, AutoTokenizer

        model = source.read_model(loader, **options).to(device)
        parts = model, source.read(AutoImageProcessor), source.read(AutoTokenizer)
        return source.tried(cls(*parts, name=source.recorded_as(cls)), device)


def pixels(processor: Any, images: Tensor, model: nn.Module) -> dict[str, Tensor]:
    """Return `pixel_values`, and `pixel_mask` where the processor returns one, with gradient to the images.

    Args:
        processor: an image processor of transformers' torchvision backend; the PIL ones cut the graph.
        images: RGB float (B, 3, H, W) in [0, 1].
        model: its dtype is that of the result.

    Raises:
        ValueError: the processor cut the graph.
    """
    # The images are in [0, 1] already. The processor would normalise in float32, whatever the images' dtype.
    prepared = processor(images=list(images), do_rescale=False, do_normalize=False, return_tensors="pt")
    values, mask = prepared["pixel_values"], prepared.get("pixel_mask")
    if images.requires_grad and torch.is_grad_enabled() and not values.requires_grad:
        raise ValueError(f"{type(processor).__name__} cuts the gradient; use the torchvision image processor")
    if processor.do_normalize:
        channels = zip(values.unbind(1), processor.image_mean, processor.image_std, strict=True)
        values = torch.stack([(channel - mean) / std for channel, mean, std in channels], 1)
    inputs = {"pixel_values": values.to(images.device, next(model.parameters()).dtype)}
    if mask is not None:
        inputs["pixel_mask"] = mask.to(images.device)
        inputs["pixel_values"] = inputs["pixel_values"] * inputs["pixel_mask"][:, None]  # padding is 0 once normalised
    return inputs


def corners(boxes: Tensor, height: float, width: float) -> Tensor:
    """Return absolute xyxy of relative (centre x, centre y, width, height) boxes (..., 4)."""
    x, y, box_width, box_height = boxes.unbind(-1)
    relative = torch.stack([x - box_width / 2, y - box_height / 2, x + box_width / 2, y + box_height / 2], -1)
    return scale_boxes(relative, width, height)
