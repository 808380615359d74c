"""Load the models of a run: a backbone that generates, critics that steer it, and a judge that does not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import critics as critic_files
from countgen import miniature
from countgen.backbones import Backbone, lora
from countgen.backbones.assembly import check_memory, from_pipeline, load_source
from countgen.backbones.loading import load_tiny_vae
from countgen.backbones.lora import Lora
from countgen.backbones.sources import find_source
from countgen.backbones.weight_files import described
from countgen.critics import Critic, registry
from countgen.critics.detectors.density import DensityCritic
from countgen.critics.dynamic_scale import DynamicScaleCritic
from countgen.critics.ultralytics_files import KINDS
from countgen.detector_choice import choose
from countgen.detector_files import Missing, missing_files, refuse_if_offline
from countgen.methods.execution_cache import ExecutionCache
from countgen.progress import loading, without_loading_bars
from countgen.prompts import Target


@dataclass(frozen=True)
class Models:
    """The models that a run needs.

    Attributes:
        backbone: the frozen text-to-image pipeline.
        critics: detectors that the latents are optimised against; the first one's counts are reported.
        judge: a detector of another family, which nothing optimises.
        cache: CUDA graphs and memory estimates that runs share.
        because: why these detectors, where the user named none.

    Raises:
        ValueError: the judge and a critic are of one family, or a critic carries no gradient.
    """

    backbone: Backbone
    critics: tuple[Critic, ...]
    judge: Critic
    cache: ExecutionCache = field(default_factory=ExecutionCache, repr=False, compare=False)
    because: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for critic in self.critics:
            if not critic.differentiable:
                raise ValueError(f"{critic.name} carries no gradient, so it cannot steer: name it as the judge")
            shared = critic.families & self.judge.families
            if shared:
                raise ValueError(
                    f"the judge {self.judge.name} is of the same family ({', '.join(sorted(shared))}) as the critic "
                    f"{critic.name}, so the two share mistakes: name a judge of another family"
                )

    def check(self, targets: tuple[Target, ...]) -> None:
        """Refuse targets that a detector cannot count.

        Raises:
            ValueError: an object that is no class of a detector, two objects of one class, or more objects than a
                detector returns.
        """
        for critic in (*self.critics, self.judge):
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
    critics: Sequence[str | Critic] | None = None,
    judge: str | Critic | None = None,
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
    because: str = "",
    progress: bool = False,
) -> Models:
    """Load a model with its critics and its judge.

    Args:
        model: a diffusers pipeline that is loaded already, which is taken on its device and in its dtype and whose
            modules are shared, see `countgen.backbones.assembly.from_pipeline`; or what to load: a preset's name, see
            `countgen.backbones.presets`, OWNER/NAME on the hub, a folder, or a `.safetensors` file.
        objects: what will be counted; decides about the detectors where none are named, see
            `countgen.detector_choice.choose`.
        critics: detectors to optimise against: names, as `load_critic` reads them, or critics.
        judge: likewise; must not be one of the critics.
        device: CUDA where there is one, otherwise the CPU.
        dtype: of the backbone; float32 on a CPU and the preset's elsewhere by default.
        memory: "fast", or "low" for small devices: slower steps of the same images, and critics that see them
            no larger than they are.
        draft: let gradients pass through the preset's tiny decoder; the VAE decodes what is shown and judged.
        trust_checkpoint: let the code in `.pt` files of `critics` and `judge` run; see `load_critic`.
        repository: with a preset: hub id, local folder or `.safetensors` file to load in its place and to sample as
            the preset is sampled.
        revision: branch, tag or commit of the repository.
        scheduler: class name of a diffusers scheduler that replaces the model's.
        loras: adapters, each a `countgen.backbones.lora.Lora` or "FILE:WEIGHT".
        num_inference_steps, guidance_scale, height, width: as in diffusers; the preset's by default. Every other
            field of a preset can be changed with `countgen.backbones.load`, whose result goes into `Models`.
        because: why these detectors, for the recipe, where they were chosen before.
        progress: print on standard error what is loaded, how large it is, and how long it took.

    Raises:
        ValueError: an unknown name, a pipeline that gradients cannot pass, a judge that is also a critic, a preset
            without a tiny decoder for drafts, or a device whose memory will not do.
        OSError: files are missing, and cannot be downloaded.
    """
    given = {
        "revision": revision,
        "scheduler": scheduler,
        "num_inference_steps": num_inference_steps,
        "guidance_scale": guidance_scale,
        "height": height,
        "width": width,
    }
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    adapters = tuple(lora.parse(one) if isinstance(one, str) else one for one in loras)
    if not isinstance(model, str | os.PathLike):
        _refuse_for_pipelines(model, device=device, dtype=dtype, repository=repository, loras=adapters or None)
        backbone = from_pipeline(model, draft=draft, memory=memory, **changes)
        return with_detectors(
            backbone, objects=objects, critics=critics, judge=judge, trust_checkpoint=trust_checkpoint, because=because
        )
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    check_memory(memory)
    lora.check_installed(adapters)
    source = find_source(model, repository=repository, **changes)
    if draft and source.preset.tiny_vae is None:
        load_tiny_vae(source.preset, torch.float32)  # refuses it, before anything is read
    with loading(described(source.name, source.preset), shown=progress):
        detectors = _load_detectors(source.name, objects, critics, judge, device, trust_checkpoint)
        backbone = load_source(source, device=device, dtype=dtype, memory=memory, draft=draft, loras=adapters)
    return _assembled(backbone, *detectors, because)


def with_detectors(
    backbone: Backbone,
    *,
    objects: Sequence[str] = (),
    critics: Sequence[str | Critic] | None = None,
    judge: str | Critic | None = None,
    trust_checkpoint: bool = False,
    because: str = "",
) -> Models:
    """Load the critics and the judge for a backbone that is loaded already; arguments as of `load`.

    Raises:
        ValueError, OSError: as `load`.
    """
    with without_loading_bars():
        detectors = _load_detectors(backbone.name, objects, critics, judge, backbone.device, trust_checkpoint)
    return _assembled(backbone, *detectors, because)


def _refuse_for_pipelines(pipeline: Any, **given: Any) -> None:
    """Refuse what cannot be asked of a pipeline that is loaded already."""
    if not hasattr(pipeline, "components"):
        raise ValueError(
            f"a model is a name, a path or a diffusers pipeline, got {type(pipeline).__name__}; a Backbone goes into "
            "countgen.models.with_detectors, or into countgen.Models(backbone, critics, judge)"
        )
    advice = {
        "device": "move it with pipe.to(device)",
        "dtype": "change it with pipe.to(dtype)",
        "repository": "load that repository instead",
        "loras": "call pipe.load_lora_weights first",
    }
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"a loaded pipeline is taken as it is, without {name}=: {advice[name]}")


def _assembled(
    backbone: Backbone, critics: tuple[Critic, ...], judge: Critic, chosen_because: str, because: str
) -> Models:
    if backbone.memory == "low":
        critics = tuple(no_larger(critic, max(backbone.height, backbone.width)) for critic in critics)
    return Models(backbone, critics, judge, because=because or chosen_because)


def _load_detectors(
    model_name: str,
    objects: Sequence[str],
    critics: Sequence[str | Critic] | None,
    judge: str | Critic | None,
    device: torch.device,
    trust_checkpoint: bool,
) -> tuple[tuple[Critic, ...], Critic, str]:
    """Load critics and judge, all names and files checked before; the third value says why these, if they were chosen.

    Raises:
        ValueError: as `load_critic`, or what is given is no detector, or one of a name that is given already.
        OSError: as `load_critic`, or files are missing where nothing may be downloaded.
    """
    if isinstance(critics, str):
        raise ValueError(f"critics are several names, got the one string {critics!r}; write critics=({critics!r},)")
    for one in (*(critics or ()), judge):
        if not isinstance(one, str | Critic | None):
            raise ValueError(
                f"a detector is a name or a critic, got {type(one).__name__}; critics.from_module makes a critic of "
                "your own"
            )
    names = [one if isinstance(one, str) else one.name for one in critics or ()]
    if len({*names}) < len(names):
        raise ValueError(f"two of the critics {', '.join(names)} have one name; give each its own")
    judge_name = judge if judge is None or isinstance(judge, str) else judge.name
    choice = choose(model_name, objects, names or None, judge_name)
    objects_given = {one.name: one for one in (*(critics or ()), judge) if isinstance(one, Critic)}
    wanted = [name for name in (*choice.critics, choice.judge) if name not in objects_given]
    check_detectors(wanted)
    loaded = {name: load_critic(name, device, trust_checkpoint=trust_checkpoint) for name in dict.fromkeys(wanted)}
    loaded |= objects_given
    return tuple(loaded[name] for name in choice.critics), loaded[choice.judge], choice.because


def check_detectors(names: Sequence[str]) -> tuple[Missing, ...]:
    """Refuse names that `load_critic` would refuse, and files that are not here and cannot be downloaded.

    Returns:
        What will be downloaded.

    Raises:
        ValueError: as `check_detector`.
        FileNotFoundError: HF_HUB_OFFLINE is set and files are missing; it says which, and where to put them.
    """
    for name in names:
        check_detector(name)
    parts = [part for name in names for part in parts_of(name) if part not in miniature.DETECTORS]
    found = [missing_files(*_asked(part), part) for part in dict.fromkeys(parts)]
    missing = tuple(one for one in found if one is not None)
    refuse_if_offline(missing)
    return missing


def _asked(name: str) -> tuple[str, str, str | None]:
    """Return kind, weights and revision that a name asks for; empty weights where the kind has its own."""
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
    """Refuse a name that `load_critic` would refuse, before anything is loaded; weights are not searched for.

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
    """Return the critic's file in `critics/detectors` for a name; None where there is none."""
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
        detector, density = (load_critic(one, device, trust_checkpoint=trust_checkpoint) for one in parts)
        assert isinstance(density, DensityCritic)
        return DynamicScaleCritic(detector, density)
    if name in miniature.DETECTORS:
        return miniature.load_detector(name, device)
    kind, weights, revision = _asked(name)
    options: dict[str, Any] = {"weights": weights} if ":" in name else {}  # "nanodet" has weights of its own
    if revision is not None:
        options["revision"] = revision
    if trust_checkpoint and kind in KINDS:
        options["trust_checkpoint"] = True
    return critic_files.load(kind, **options, device=device)
