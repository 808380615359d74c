"""Load the models of a run: a backbone that generates, critics that steer it, and a judge that does not."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from countgen import backbones, miniature
from countgen import critics as critic_files
from countgen.backbones import Backbone, lora
from countgen.backbones.assembly import from_pipeline
from countgen.backbones.cuda_graphs import CUDAGraphs
from countgen.backbones.loading import described, load_tiny_vae
from countgen.backbones.lora import Lora
from countgen.backbones.sources import find_source
from countgen.critics import Critic, registry
from countgen.critics.detectors.density import DensityCritic
from countgen.critics.dynamic_scale import DynamicScaleCritic
from countgen.critics.ultralytics_files import KINDS
from countgen.detector_choice import AUTO, Choice, choose
from countgen.detector_files import Missing, check_downloadable, missing_files
from countgen.errors import PromptError
from countgen.progress import loading, without_loading_bars
from countgen.prompts import OVERRIDE, Prompt, Target, read
from countgen.prompts.truncation import check_is_read

Names = str | Critic | Sequence[str | Critic] | None
Announce = Callable[[Choice, tuple[Missing, ...]], object]


@dataclass(frozen=True)
class Models:
    """The models that a run needs.

    Attributes:
        backbone: the frozen text-to-image pipeline.
        critics: detectors that the latents are optimised against; the first one's counts are reported.
        judge: a detector of another family, which nothing optimises; None to run without one.
        graphs: CUDA graphs that runs share.
        detectors_chosen: why these detectors; empty if the user named all of them.

    Raises:
        ValueError: the judge and a critic are of one family, or a critic carries no gradient.
    """

    backbone: Backbone
    critics: tuple[Critic, ...]
    judge: Critic | None = None
    graphs: CUDAGraphs = field(default_factory=CUDAGraphs, repr=False, compare=False)
    detectors_chosen: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for critic in self.critics:
            if not critic.differentiable:
                raise ValueError(f"{critic.name} carries no gradient, so it cannot steer: name it as the judge")
            if self.judge is not None and (shared := critic.families & self.judge.families):
                raise ValueError(
                    f"the judge {self.judge.name} is of the same family ({', '.join(sorted(shared))}) as the critic "
                    f"{critic.name}, so the two share mistakes: name a judge of another family"
                )

    @property
    def required_judge(self) -> Critic:
        """The judge, for what cannot do without one.

        Raises:
            ValueError: the models were loaded without a judge.
        """
        if self.judge is None:
            raise ValueError("this needs a judge, and the models were loaded without one: give judge= to countgen.load")
        return self.judge

    def read(self, prompt: str | Prompt, targets: tuple[Target, ...] | None = None) -> Prompt:
        """Read a prompt with the classes of the first critic, and check that the models can generate and count it.

        Args:
            prompt: a text, or what this method returned.
            targets: to count in place of those of the text.

        Raises:
            PromptError: no clear count, an object that a detector does not know, or a target beyond the part of the
                text that the backbone's encoder reads.
            ValueError: as `check`, for given targets.
        """
        prompt = read(prompt, self.critics[0].object_names, targets)
        try:
            self.check(prompt.targets)
        except ValueError as error:
            if targets:
                raise
            raise PromptError(f"{error}, or {OVERRIDE}") from error
        check_is_read(prompt, self.backbone.pipeline)
        return prompt

    def check(self, targets: tuple[Target, ...]) -> None:
        """Raise if a detector cannot count the targets.

        Raises:
            ValueError: an object that is not a class of a detector, two objects of one class, or more objects than a
                detector returns.
        """
        for critic in (*self.critics, *([self.judge] if self.judge else [])):
            critic.check_distinct(target.object_name for target in targets)
            for target in targets:
                if target.target_count > critic.max_count:
                    raise ValueError(
                        f"{critic.name} returns at most {critic.max_count} objects, "
                        f"{target.target_count} x {target.object_name} were requested; request fewer"
                    )


def load(
    model: str | os.PathLike[str] | Any = "miniature",
    *,
    objects: Sequence[str] = (),
    critics: Names = None,
    judge: str | Critic | None = AUTO,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    memory: str = "fast",
    draft: bool = False,
    trust_checkpoint: bool = False,
    repository: str | None = None,
    revision: str | None = None,
    scheduler: str | None = None,
    loras: Sequence[Lora | str] = (),
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    height: int | None = None,
    width: int | None = None,
    progress: bool = False,
    announce: Announce = lambda choice, missing: None,
) -> Models:
    """Load a model with its critics and its judge.

    Args:
        model: a loaded diffusers pipeline, whose device, dtype and modules are used as they are, see
            `countgen.backbones.assembly.from_pipeline`; or what to load: the name of a preset, see
            `countgen.backbones.presets`, OWNER/NAME on the hub, a folder, or a `.safetensors` file.
        objects: object classes that will be counted; they select the detectors if none are named, see
            `countgen.detector_choice.choose`.
        critics: one or several detectors to optimise against: names, as `load_critic` reads them, or critics; None to
            select them by `objects`.
        judge: a detector that only counts, by name or as a critic, and that is not one of the critics; "auto" to
            select it by `objects`, None to run without one.
        device: CUDA if available, otherwise the CPU.
        dtype: of the backbone; float32 on a CPU and the preset's elsewhere by default.
        memory: "fast", or "low" for small devices: slower steps of the same images, and critics that see them
            no larger than they are.
        draft: search seeds and take gradients with the preset's tiny decoder; the VAE decodes what is shown and judged.
        trust_checkpoint: let the code in `.pt` files of `critics` and `judge` run; see `load_critic`.
        repository: with a preset: hub id, local folder or `.safetensors` file to load in its place and to sample as
            the preset is sampled.
        revision: branch, tag or commit of the repository.
        scheduler: class name of a diffusers scheduler that replaces the model's.
        loras: adapters, each a `countgen.backbones.lora.Lora` or "FILE:WEIGHT".
        num_inference_steps, guidance_scale, height, width: as in diffusers; the preset's by default. Every other
            field of a preset can be changed with `countgen.backbones.load`, whose result goes into `Models`.
        progress: print on standard error what is loaded, how large it is, and how long it took.
        announce: called before anything is downloaded, with the detectors and with what will be downloaded of them; an
            error that it raises ends the loading.

    Raises:
        ValueError: an unknown name, a pipeline that gradients cannot pass, a judge that is also a critic, a preset
            without a tiny decoder for drafts, or a device whose memory is too small.
        OSError: files are missing, and cannot be downloaded.
    """
    sampled = {"scheduler": scheduler, "num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale}
    given: dict[str, Any] = {"revision": revision, "height": height, "width": width, **sampled}
    changes = {name: value for name, value in given.items() if value is not None}
    adapters = tuple(lora.parse(adapter) if isinstance(adapter, str) else adapter for adapter in loras)
    if not isinstance(model, str | os.PathLike):
        _check_for_pipelines(model, device=device, dtype=dtype, repository=repository, loras=adapters or None)
        backbone = from_pipeline(model, draft=draft, memory=memory, **changes)
        return Detectors(backbone.name, objects, critics, judge, announce).join(backbone, trust_checkpoint)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    source = find_source(model, repository=repository, **changes)
    if draft and source.preset.tiny_vae is None:
        load_tiny_vae(source.preset, torch.float32)  # raises before anything is read
    detectors = Detectors(source.name, objects, critics, judge, announce)
    with loading(described(source.name, source.preset), shown=progress):
        loaded = detectors.load(device, trust_checkpoint)
        backbone = backbones.load(source, device=device, dtype=dtype, memory=memory, draft=draft, loras=adapters)
    return _models(backbone, *loaded, detectors.choice.because)


def with_detectors(
    backbone: Backbone,
    *,
    objects: Sequence[str] = (),
    critics: Names = None,
    judge: str | Critic | None = AUTO,
    trust_checkpoint: bool = False,
    announce: Announce = lambda choice, missing: None,
) -> Models:
    """Load the critics and the judge for a backbone that is loaded already; arguments as of `load`.

    Raises:
        ValueError, OSError: as `load`.
    """
    return Detectors(backbone.name, objects, critics, judge, announce).join(backbone, trust_checkpoint)


def _check_for_pipelines(pipeline: Any, **given: Any) -> None:
    """Raise for arguments that a pipeline in memory cannot take."""
    if not hasattr(pipeline, "components"):
        raise ValueError(
            f"a model is a name, a path or a diffusers pipeline, got {type(pipeline).__name__}; a Backbone goes into "
            "countgen.models.with_detectors, or into countgen.Models(backbone, critics, judge)"
        )
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f"a loaded pipeline is taken as it is, without {name}=: change it first, as with "
                "pipe.to(device, dtype) and pipe.load_lora_weights"
            )


def _models(backbone: Backbone, critics: tuple[Critic, ...], judge: Critic | None, because: str) -> Models:
    if backbone.memory == "low":
        critics = tuple(no_larger(critic, max(backbone.height, backbone.width)) for critic in critics)
    return Models(backbone, critics, judge, detectors_chosen=because)


class Detectors:
    """Critics and judge that are chosen, checked and announced, not loaded yet.

    Args:
        model_name: of the backbone, which need not be loaded yet.
        objects, critics, judge, announce: as of `load`.

    Raises:
        ValueError: as `load_critic`, or what is given is not a detector, or has the name of another one.
        OSError: files are missing and cannot be downloaded.
    """

    def __init__(
        self, model_name: str, objects: Sequence[str], critics: Names, judge: str | Critic | None, announce: Announce
    ) -> None:
        critics = (critics,) if isinstance(critics, str | Critic) else tuple(critics or ())
        for detector in (*critics, judge):
            if not isinstance(detector, str | Critic | None):
                raise ValueError(
                    f"a detector is a name or a critic, got {type(detector).__name__}; critics.from_module makes a "
                    "critic of your own"
                )
        names = [critic if isinstance(critic, str) else critic.name for critic in critics]
        if len({*names}) < len(names):
            raise ValueError(f"two of the critics {', '.join(names)} have one name; give each its own")
        self.choice = choose(model_name, objects, names or None, judge.name if isinstance(judge, Critic) else judge)
        self._given = {detector.name: detector for detector in (*critics, judge) if isinstance(detector, Critic)}
        missing = check_detectors([name for name in self.choice.names if name not in self._given])
        announce(self.choice, missing)

    def load(self, device: torch.device, trust_checkpoint: bool) -> tuple[tuple[Critic, ...], Critic | None]:
        """Return the critics and the judge."""
        loaded = {
            name: self._given.get(name) or load_critic(name, device, trust_checkpoint=trust_checkpoint)
            for name in self.choice.names
        }
        return tuple(loaded[name] for name in self.choice.critics), loaded.get(self.choice.judge or "")

    def join(self, backbone: Backbone, trust_checkpoint: bool = False) -> Models:
        """Load them, and return the models of a run with a backbone."""
        with without_loading_bars():
            loaded = self.load(backbone.device, trust_checkpoint)
        return _models(backbone, *loaded, self.choice.because)


def check_detectors(names: Sequence[str]) -> tuple[Missing, ...]:
    """Check the names of detectors, and that their files are here or can be downloaded.

    Returns:
        What will be downloaded.

    Raises:
        ValueError: as `check_detector`.
        FileNotFoundError: HF_HUB_OFFLINE is set and files are missing; it says which, and where to put them.
    """
    for name in names:
        check_detector(name)
    detectors = dict.fromkeys(part for name in names for part in parts_of(name) if part not in miniature.DETECTORS)
    missing = [missing_files(*_kind_weights_revision(detector), detector) for detector in detectors]
    needed = tuple(files for files in missing if files is not None)
    check_downloadable(needed)
    return needed


def _kind_weights_revision(name: str) -> tuple[str, str, str | None]:
    """Return the parts of KIND:WEIGHTS@REVISION; empty weights for a kind that has its own."""
    kind, _, weights = name.partition(":")
    place, at, revision = weights.rpartition("@")
    if at and not Path(weights).exists():
        return kind, place, revision
    return kind, weights, None


def no_larger(critic: Critic, side: int) -> Critic:
    """Return the critic with an input size not above the image's larger side: enlarging adds no detail."""
    size = critic.settings.image_size
    return critic if size is None or size <= side else critic.at_scale(side / size)


def check_detector(name: str) -> None:
    """Check the name of a detector without looking for its weights.

    Raises:
        ValueError: no such name or kind, or no density counter after "by".
    """
    detector, *density = parts_of(name)
    kind = _kind_of(detector)
    if kind is None:
        raise ValueError(
            f"unknown detector {detector!r}; available: {', '.join(miniature.DETECTORS)}, or KIND:PATH with a kind of "
            f"{', '.join(critic_files.available())}"
        )
    registry.check(kind)
    if density and _kind_of(density[0]) != "density":
        raise ValueError(f"{density[0]} has no density map, which {name!r} needs; name a density counter after 'by'")


def parts_of(name: str) -> tuple[str, ...]:
    """Return the detectors in a name: two in "miniature-yolo by miniature-density", otherwise the name alone."""
    detector, by, other = name.rpartition(" by ")
    known = other in miniature.DETECTORS or _kind_of(other) in critic_files.available()
    return (detector, other) if by and known else (name,)


def _kind_of(name: str) -> str | None:
    """Return the critic's file in `critics/detectors` for a name; None if it does not exist."""
    if name in miniature.DETECTORS:
        return miniature.DETECTORS[name].kind
    kind, colon, _ = name.partition(":")
    return kind if colon or kind in critic_files.available() else None


def load_critic(name: str, device: str | torch.device = "cpu", *, trust_checkpoint: bool = False) -> Critic:
    """Load a detector by its short name.

    Args:
        name: an embedded one ("miniature-yolo"), or KIND:WEIGHTS with a kind from `critics.available()`, for
            example "yolo:weights/yolo11x.pt" or "detr:rtdetr-r50"; weights of a repository may end in @REVISION.
            A `.pt` is read as data. "DETECTOR by DENSITY" has the counts of the first and the gradient of the second,
            see `countgen.critics.dynamic_scale`.
        device: where it runs.
        trust_checkpoint: let Ultralytics load a `.pt`, a pickle, which runs any code that its author put into it.

    Raises:
        ValueError: no such name or kind, weights that are damaged or of another kind, or no density counter
            after "by".
        FileNotFoundError: no such weights.
    """
    check_detector(name)
    if len(parts := parts_of(name)) == 2:
        detector, density = (load_critic(part, device, trust_checkpoint=trust_checkpoint) for part in parts)
        assert isinstance(density, DensityCritic)
        return DynamicScaleCritic(detector, density)
    if name in miniature.DETECTORS:
        return miniature.load_detector(name, device)
    kind, weights, revision = _kind_weights_revision(name)
    trust: dict[str, Any] = {"trust_checkpoint": True} if trust_checkpoint and kind in KINDS else {}
    return critic_files.load(kind, weights=weights or None, revision=revision, device=device, **trust)
