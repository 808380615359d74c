"""The three parts of a run, loaded together: a backbone that draws, critics that steer, a judge that does not."""

from __future__ import annotations

from dataclasses import dataclass

import torch

import critics as critic_files
from countgen import backbones, miniature
from countgen.backbones import Backbone
from countgen.prompts import Target
from critics import Critic


@dataclass(frozen=True)
class Models:
    """What a run needs.

    Attributes:
        backbone: the frozen text-to-image pipeline.
        critics: optimised against; the first one's counts are reported.
        judge: a detector of another architecture, which nothing optimises.
    """

    backbone: Backbone
    critics: tuple[Critic, ...]
    judge: Critic

    def check(self, targets: tuple[Target, ...]) -> None:
        """Refuse targets that a detector cannot count.

        Raises:
            ValueError: an object without a class, or more objects than a detector returns.
        """
        for critic in (*self.critics, self.judge):
            for target in targets:
                if critic.object_names is not None:
                    critic.column(target.object_name)
                if target.target_count > critic.max_count:
                    raise ValueError(
                        f"{critic.name} returns at most {critic.max_count} objects, "
                        f"{target.target_count} x {target.object_name} were asked for; ask for fewer"
                    )


def load(
    backbone: str = "miniature",
    *,
    critics: tuple[str, ...] | None = None,
    judge: str | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> Models:
    """Load a backbone with its critics and its judge.

    Args:
        backbone: a preset's name, see `countgen.backbones.presets`.
        critics: detectors to optimise against, as `load_critic` reads them; the backbone's own by default.
        judge: likewise; must not be one of the critics.
        device: CUDA where there is one, otherwise the CPU.
        dtype: of the backbone; float32 on a CPU and float16 elsewhere by default.

    Raises:
        ValueError: an unknown name, a judge that is also a critic, or a preset without detectors of its own
            where none were given.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if backbone.startswith("miniature"):
        critics = critics or miniature.CRITICS
        judge = judge or miniature.JUDGE
    if not critics or not judge:
        raise ValueError(
            f"{backbone} comes without detectors: name a critic and a judge of different architectures, "
            "for example critics=('yolo:yolo11x.pt',), judge='fcos:judge.safetensors'"
        )
    if judge in critics:
        raise ValueError(f"the judge {judge!r} is also a critic; a judge must be a detector that nothing optimises")
    loaded = tuple(load_critic(name, device) for name in critics)
    return Models(backbones.load(backbone, device=device, dtype=dtype), loaded, load_critic(judge, device))


def load_critic(name: str, device: str | torch.device = "cpu") -> Critic:
    """Load a detector by its short name.

    Args:
        name: an embedded one ("miniature-yolo"), or KIND:PATH with a kind from `critics.available()`, for
            example "yolo:weights/yolo11x.pt". A `.pt` is a pickle: name only files you trust.
        device: where it runs.

    Raises:
        ValueError: no such name or kind.
        FileNotFoundError: no such weights.
    """
    if name in miniature.DETECTORS:
        return miniature.load_detector(name, device)
    kind, colon, weights = name.partition(":")
    if not colon:
        raise ValueError(
            f"unknown detector {name!r}; available: {', '.join(miniature.DETECTORS)}, or KIND:PATH with a kind of "
            f"{', '.join(critic_files.available())}"
        )
    return critic_files.load(kind, weights=weights, device=device)
