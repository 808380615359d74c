"""Load the models of a run: a backbone that generates, critics that steer it, and a judge that does not."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import critics as critic_files
from countgen import backbones, miniature
from countgen.backbones import Backbone
from countgen.backbones.registry import find
from countgen.methods.execution_cache import ExecutionCache
from countgen.prompts import Target
from critics import Critic, registry
from critics.detectors.density import DensityCritic
from critics.dynamic_scale import DynamicScaleCritic
from critics.ultralytics_files import KINDS


@dataclass(frozen=True)
class Models:
    """The models that a run needs.

    Attributes:
        backbone: the frozen text-to-image pipeline.
        critics: detectors that the latents are optimised against; the first one's counts are reported.
        judge: a detector of another family, which nothing optimises.
        cache: CUDA graphs and memory estimates that runs share.

    Raises:
        ValueError: the judge and a critic are of one family.
    """

    backbone: Backbone
    critics: tuple[Critic, ...]
    judge: Critic
    cache: ExecutionCache = field(default_factory=ExecutionCache, repr=False, compare=False)

    def __post_init__(self) -> None:
        for critic in self.critics:
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
            classes: dict[int | str, str] = {}
            for target in targets:
                own = target.object_name if critic.object_names is None else critic.column(target.object_name)
                if own in classes:
                    raise ValueError(
                        f"{classes[own]!r} and {target.object_name!r} are one class of {critic.name}; "
                        "give them one count"
                    )
                classes[own] = target.object_name
                if target.target_count > critic.max_count:
                    raise ValueError(
                        f"{critic.name} returns at most {critic.max_count} objects, "
                        f"{target.target_count} x {target.object_name} were requested; request fewer"
                    )


def load(
    backbone: str = "miniature",
    *,
    critics: tuple[str, ...] | None = None,
    judge: str | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    memory: str = "fast",
    draft: bool = False,
    trust_checkpoint: bool = False,
    repository: str | None = None,
    revision: str | None = None,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    height: int | None = None,
    width: int | None = None,
) -> Models:
    """Load a backbone with its critics and its judge.

    Args:
        backbone: a preset's name, see `countgen.backbones.presets`.
        critics: detectors to optimise against, as `load_critic` reads them; the backbone's own by default.
        judge: likewise; must not be one of the critics.
        device: CUDA where there is one, otherwise the CPU.
        dtype: of the backbone; float32 on a CPU and the preset's elsewhere by default.
        memory: "fast", or "low" for small devices: the same images in slower steps, and critics whose input is not
            larger than the image.
        draft: compute gradients through the preset's tiny decoder; the VAE decodes the images that are returned.
        trust_checkpoint: let the code in `.pt` files of `critics` and `judge` run; see `load_critic`.
        repository: hub id, local folder or `.safetensors` file of the same family, in place of the preset's.
        revision: branch, tag or commit of the repository.
        num_inference_steps, guidance_scale, height, width: as in diffusers; the preset's by default. Every other
            field of a preset can be changed with `countgen.backbones.load`, whose result is passed to `Models`.

    Raises:
        ValueError: an unknown name, a judge that is also a critic, a preset without detectors of its own where none
            were given or without a tiny decoder for drafts, or a device whose memory is too small.
    """
    critics, judge = detectors_of(backbone, critics, judge)
    given = {
        "revision": revision,
        "num_inference_steps": num_inference_steps,
        "guidance_scale": guidance_scale,
        "height": height,
        "width": width,
    }
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    loaded = backbones.load(
        backbone, repository=repository, device=device, dtype=dtype, memory=memory, draft=draft, **changes
    )
    return with_detectors(loaded, critics=critics, judge=judge, trust_checkpoint=trust_checkpoint)


def with_detectors(
    backbone: Backbone,
    *,
    critics: tuple[str, ...] | None = None,
    judge: str | None = None,
    trust_checkpoint: bool = False,
) -> Models:
    """Load the critics and the judge for a backbone that is loaded already; arguments as of `load`.

    Raises:
        ValueError: as `load`.
    """
    device = backbone.device
    critics, judge = detectors_of(backbone.name, critics, judge)
    loaded = tuple(load_critic(name, device, trust_checkpoint=trust_checkpoint) for name in critics)
    if backbone.memory == "low":
        loaded = tuple(no_larger(critic, max(backbone.height, backbone.width)) for critic in loaded)
    return Models(backbone, loaded, load_critic(judge, device, trust_checkpoint=trust_checkpoint))


def detectors_of(backbone: str, critics: tuple[str, ...] | None, judge: str | None) -> tuple[tuple[str, ...], str]:
    """Return the names of the critics and the judge: those given, otherwise the embedded ones of a miniature.

    Raises:
        ValueError: no such backbone, a judge that is also a critic, or none for a backbone without its own.
    """
    if isinstance(critics, str):
        raise ValueError(f"critics must be a tuple of names, got the string {critics!r}; write critics=({critics!r},)")
    find(backbone)
    if backbone.startswith("miniature"):
        critics = critics or miniature.CRITICS
        judge = judge or miniature.JUDGE
    if not critics or not judge:
        raise ValueError(
            f"{backbone} has no detectors of its own: name a critic and a judge of different architectures, "
            "for example critics=('yolo:yolo11x.pt',), judge='torchvision:fasterrcnn_resnet50_fpn_v2'; on the command "
            "line --critic yolo:yolo11x.pt --judge torchvision:fasterrcnn_resnet50_fpn_v2"
        )
    if judge in critics:
        raise ValueError(f"the judge {judge!r} is also a critic; a judge must be a detector that nothing optimises")
    return critics, judge


def no_larger(critic: Critic, side: int) -> Critic:
    """Return the critic with an input size not above the image's larger side: enlarging adds no detail."""
    size = getattr(critic, "image_size", None)
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
            see `critics.dynamic_scale`.
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
    kind, colon, weights = name.partition(":")
    options: dict[str, Any] = {"weights": weights} if colon else {}  # "nanodet" has weights of its own
    place, at, revision = weights.rpartition("@")
    if at and not Path(weights).exists():
        options = {"weights": place, "revision": revision}
    if trust_checkpoint and kind in KINDS:
        options["trust_checkpoint"] = True
    return critic_files.load(kind, **options, device=device)
