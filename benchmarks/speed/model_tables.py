"""Write the tables of models and detectors into docs/models.md: `python -m countgen.benchmarks.speed.model_tables`.

Licences are those of the presets and of `countgen.detector_choice`, the memory of a step is that of docs/memory.md.
What ran at full size is in benchmarks/results/rehearsal.json. The weights of detectors are counted in their
architectures, built without contents.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from countgen.backbones import presets
from countgen.backbones.memory_estimate import weights_of
from countgen.benchmarks.speed import rehearsal
from countgen.benchmarks.speed.clock import GIB
from countgen.benchmarks.speed.memory import RESULTS
from countgen.benchmarks.speed.models import MODELS, build_critic
from countgen.detector_choice import COCO, FACTS, OPEN_VOCABULARY

DOCUMENT = Path("docs/models.md")
MEMORY = Path("docs/memory.md")
_TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def models_table() -> Iterator[str]:
    """Yield the lines of the table of published models."""
    yield "| model | family | licence of the weights | steps, pixels | GiB fast / low | ran at full size |"
    yield "| --- | --- | --- | --- | --- | --- |"
    memory = dict(_memory())
    ran: dict[str, list[str]] = {}
    for one in rehearsal.read(RESULTS):
        if one.size == "full" and one.code in rehearsal.FINISHED and one.command not in ran.setdefault(one.model, []):
            ran[one.model].append(one.command)
    for name in MODELS:
        family, preset = presets()[name]
        sampled = f"{preset.num_inference_steps}, {preset.width}x{preset.height}"
        finished = ", ".join(command for command in rehearsal.COMMANDS if command in ran.get(name, ())) or "-"
        yield f"| {name} | `{family}` | {preset.licence} | {sampled} | {memory[name]} | {finished} |"


def detectors_table() -> Iterator[str]:
    """Yield the lines of the table of detectors."""
    yield "| detector | licence of the weights | GiB of weights | chosen for |"
    yield "| --- | --- | --- | --- |"
    usual = {"classes of COCO": COCO, "other nouns": OPEN_VOCABULARY}
    chosen = {name: f"{objects}: critic" for objects, (critics, _) in usual.items() for name in critics}
    chosen |= {judge: f"{objects}: judge" for objects, (_, judge) in usual.items()}
    for name, facts in FACTS.items():
        with torch.device("meta"):
            weights = weights_of(_DETECTORS[name]()) / GIB
        yield f"| `{name}` | {facts.licence} | {weights:.2f} | {chosen.get(name, '-')} |"


def with_tables(text: str) -> str:
    """Return a document with its marked tables written anew."""
    tables = {"models": models_table, "detectors": detectors_table}
    return _TABLE.sub(lambda found: found[1] + "\n".join(tables[found[2]]()) + "\n" + found[3], text)


def _memory() -> Iterator[tuple[str, str]]:
    """Yield the GiB of a step with the full decoder, fast and low, of each model in the memory page."""
    for line in MEMORY.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) > 10 and cells[3] == "full":
            yield cells[0], f"{cells[9]} / {cells[10]}"


def _torchvision(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from torchvision.models import get_model

        model: nn.Module = get_model(name, weights=None, weights_backbone=None)
        return model

    return build


def _transformers(kind: str, config: Callable[[], Any]) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import transformers

        model: nn.Module = getattr(transformers, kind)(config())
        return model

    return build


def _yolo() -> nn.Module:
    with torch.device("cpu"):  # its strides are measured on an image
        critic: Any = build_critic("full", torch.device("cpu"))
    model: nn.Module = critic.model
    return model


def _config(kind: str, **options: Any) -> Callable[[], Any]:
    def config() -> Any:
        from transformers import AutoConfig

        return AutoConfig.for_model(kind, **options)

    return config


_RESNET = {"backbone_config": {"model_type": "resnet", "out_features": ["stage4"]}}
_OWLV2 = {"vision_config": {"image_size": 960, "patch_size": 16}}
_DETECTORS: dict[str, Callable[[], nn.Module]] = {
    "yolo:yolo11m": _yolo,
    **{
        f"torchvision:{name}": _torchvision(name)
        for name in ("fasterrcnn_resnet50_fpn_v2", "retinanet_resnet50_fpn_v2", "fcos_resnet50_fpn", "ssd300_vgg16")
    },
    "owl:owlv2-base": _transformers("Owlv2ForObjectDetection", _config("owlv2", **_OWLV2)),
    "grounding_dino:tiny": _transformers("GroundingDinoForObjectDetection", _config("grounding-dino")),
    "detr:detr-resnet-50": _transformers("DetrForObjectDetection", _config("detr", **_RESNET)),
    "detr:rtdetr-r50": _transformers("RTDetrForObjectDetection", _config("rt_detr")),
    "sam3:sam3": _transformers("Sam3Model", _config("sam3")),
}
"""Architectures of the detectors in `countgen.detector_choice.FACTS`, by their published configurations."""


def main() -> int:
    """Write the tables; started in the repository's root."""
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text("utf-8")), "utf-8")
    print(DOCUMENT)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
