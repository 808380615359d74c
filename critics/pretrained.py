"""Shared code of the critics built on transformers: read a checkpoint, and prepare images with its processor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import AutoImageProcessor, AutoTokenizer

from countgen.critics.base import Critic
from countgen.critics.vocabulary import singular
from countgen.critics.weights import AnyCritic, explained, one_line
from countgen.files import hub
from countgen.files.model_folder import check_model_folder

_FILES = ("config.json", "*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
"""Files of a repository that transformers reads: configurations, weights, vocabularies and chat templates."""


class Source:
    """A folder with a checkpoint of transformers, checked, from which models, processors and tokenizers are read.

    Args:
        weights, presets: as of `countgen.files.hub.locate`; a repository is downloaded once.
        revision: a branch, tag or commit; None for the repository's main branch.

    Raises:
        ValueError: as `countgen.files.hub.locate`, or the files are not accepted by `check_model_folder`.
        OSError: the repository is not in the hub's cache and cannot be downloaded.
    """

    def __init__(self, weights: str, presets: Mapping[str, str], revision: str | None) -> None:
        self.name, preset_revision = hub.locate(weights, presets)
        self._weights, self._revision, self._is_preset = weights, revision, weights in presets
        self.folder = hub.resolve(self.name, _FILES, ignore=["*/*"], revision=revision or preset_revision)
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

    def tried(self, critic: AnyCritic, device: str | torch.device) -> AnyCritic:
        """Return the critic of this checkpoint after a forward pass on an empty image, which presets do not need.

        Args:
            critic: made from this checkpoint.
            device: where it runs.

        Raises:
            ValueError: the pass fails, for example because the checkpoint's files contradict each other.
        """
        if not self._is_preset:
            object_name = critic.object_names[0] if critic.object_names else "apple"
            with explained(f"{self.name!r} cannot count, its files may not fit"):
                critic.counts(torch.zeros(1, 3, 64, 64, device=device), [object_name])
        return critic

    def recorded_as(self, critic_class: type[Critic]) -> str:
        """Return the name in records of a critic of this checkpoint: its kind, its folder, and a given revision."""
        name = f"{critic_class.kind()}:{str(self._weights).rstrip('/').rpartition('/')[2]}"
        return f"{name}@{self._revision}" if self._revision else name


class PretrainedCritic(Critic):
    """A detector of transformers.

    Attributes:
        model_class: of transformers; it reads the model.
        model_types: of the configurations that the class reads; empty if it reads every one.
        complete: whether a checkpoint must hold all weights.
        reads_text: whether it has a tokenizer, for object names.
    """

    model_class: Any
    model_types: tuple[str, ...] = ()
    complete = False
    reads_text = True

    def __init__(self, model: Any, image_processor: Any, tokenizer: Any = None, *, name: str = "") -> None:
        if self.model_types and model.config.model_type not in self.model_types:
            raise ValueError(f"{name} is a {model.config.model_type!r} model; expected {' or '.join(self.model_types)}")
        super().__init__(model, None, name=name)
        self.image_processor = image_processor
        self.tokenizer = tokenizer
        self._texts: dict[str, tuple[Tensor, Tensor]] = {}

    def inputs(self, images: Tensor) -> dict[str, Tensor]:
        """Return `pixel_values`, and `pixel_mask` where the processor returns one, with gradient to the images.

        Args:
            images: RGB float (B, 3, H, W) in [0, 1].

        Raises:
            ValueError: the image processor cut the graph, as those of transformers' PIL backend do.
        """
        processor = self.image_processor
        # The images are in [0, 1] already. The processor would normalise in float32, whatever the images' dtype.
        prepared = processor(images=list(images), do_rescale=False, do_normalize=False, return_tensors="pt")
        values, mask = prepared["pixel_values"], prepared.get("pixel_mask")
        if images.requires_grad and torch.is_grad_enabled() and not values.requires_grad:
            raise ValueError(f"{type(processor).__name__} cuts the gradient; use the torchvision image processor")
        if processor.do_normalize:
            channels = zip(values.unbind(1), processor.image_mean, processor.image_std, strict=True)
            values = torch.stack([(channel - mean) / std for channel, mean, std in channels], 1)
        inputs = {"pixel_values": values.to(images.device, self.dtype)}
        if mask is not None:
            inputs["pixel_mask"] = mask.to(images.device)
            inputs["pixel_values"] = inputs["pixel_values"] * inputs["pixel_mask"][:, None]  # padding is 0, normalised
        return inputs

    def text(self, object_name: str, length: int, template: str = "{}") -> tuple[Tensor, Tensor]:
        """Return the model's text features (1, ...) and token mask (1, length) of an object name, computed once.

        Args:
            object_name: singular or plural.
            length: of the padded tokens.
            template: with the place of the singular.
        """
        word = singular(object_name)
        if word not in self._texts:
            tokens = self.tokenizer(
                [template.format(word)], padding="max_length", max_length=length, truncation=True, return_tensors="pt"
            ).to(next(self.model.parameters()).device)
            # OWL's features come from the model inside.
            model = getattr(self.model, self.model.config.model_type, self.model)
            with torch.no_grad():
                features = model.get_text_features(tokens["input_ids"], attention_mask=tokens["attention_mask"])
            self._texts[word] = features.pooler_output, tokens["attention_mask"]
        return self._texts[word]


def load(
    critic_class: type[PretrainedCritic],
    presets: Mapping[str, str],
    *,
    weights: str | None = None,
    revision: str | None = None,
    device: str | torch.device = "cpu",
) -> PretrainedCritic:
    """Load a detector of transformers.

    Args:
        critic_class: its class.
        presets: short names of repositories, see `countgen.files.hub.locate`; the first is the default.
        weights: one of the presets, a repository or a folder.
        revision: a branch, tag or commit of the repository.
        device: where it runs.

    Raises:
        ValueError, OSError: as `Source`, `Source.read_model` and `Source.tried`.
    """
    source = Source(weights or next(iter(presets)), presets, revision)
    model = source.read_model(critic_class.model_class, complete=critic_class.complete).to(device)
    readers = (AutoImageProcessor, AutoTokenizer) if critic_class.reads_text else (AutoImageProcessor,)
    critic = critic_class(model, *map(source.read, readers), name=source.recorded_as(critic_class))
    return source.tried(critic, device)
