"""ComfyUI nodes: count objects, pick the image with the right count, generate an image with the right count."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import torch
from comfy import model_management
from comfy.utils import ProgressBar
from comfy_api.latest import ComfyExtension, io
from torch import Tensor

import countgen
from countgen import methods
from countgen.app.comfyui.detection import DETECTOR_TOOLTIP, TARGETS_TOOLTIP, detected, with_boxes
from countgen.app.comfyui.gate import CountGate
from countgen.critics.detections import mean_score
from countgen.detector_choice import AUTO
from countgen.images import to_pil
from countgen.models import Models
from countgen.prompts import targets_from
from countgen.prompts.plurals import counted_in_words, counts_in_words
from countgen.run import Run

_BOXES = io.BoundingBox if hasattr(io, "BoundingBox") else io.Custom("BOUNDING_BOX")


class CountObjects(io.ComfyNode):
    """Count objects in each image of a batch."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="CountgenCountObjects",
            display_name="Count objects",
            category="countgen",
            description="Counts objects in each image with an object detector.",
            inputs=[
                io.Image.Input("images"),
                io.String.Input("objects", default="person", tooltip="what to count, such as apple or apple,dog"),
                io.String.Input("detector", default=AUTO, tooltip=DETECTOR_TOOLTIP),
            ],
            outputs=[
                io.Image.Output("boxes_drawn", display_name="boxes drawn"),
                io.Int.Output("count", display_name="count", tooltip="all objects in the first image"),
                io.String.Output("text", display_name="text", tooltip="one line for each image"),
                _BOXES.Output(
                    "boxes", display_name="boxes", tooltip="for each image a list of x, y, width and height in pixels"
                ),
            ],
        )

    @classmethod
    def execute(cls, images: Tensor, objects: str, detector: str = AUTO) -> Any:
        names = [name.strip() for name in objects.split(",") if name.strip()]
        if not names:
            raise ValueError("objects is empty; write for example apple, or apple,dog for several")
        drawn, lines, boxes = [], [], []
        for image, detections in detected(images, names, detector):
            line = counted_in_words({of_class.object_name: len(of_class) for of_class in detections})
            drawn.append(with_boxes(image, detections, line))
            lines.append(line)
            boxes.append([box for of_class in detections for box in _as_dicts(of_class.boxes)])
        return io.NodeOutput(torch.stack(drawn), len(boxes[0]), "\n".join(lines), boxes)


class PickRightCount(io.ComfyNode):
    """Pick the image of a batch whose counts are right, or the nearest."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="CountgenPickRightCount",
            display_name="Pick the right count",
            category="countgen",
            description="Returns the image of a batch whose counts are right, or the nearest one.",
            inputs=[
                io.Image.Input("images"),
                io.String.Input("counts", default="apple=5", tooltip=TARGETS_TOOLTIP),
                io.String.Input("detector", default=AUTO, tooltip=DETECTOR_TOOLTIP),
                io.Int.Input("first_seed", default=0, min=0, max=2**64 - 1, tooltip="the seed of the first image"),
            ],
            outputs=[
                io.Image.Output("image", display_name="image"),
                io.Int.Output("index", display_name="index", tooltip="of the image in the batch, from 0"),
                io.Int.Output("seed", display_name="seed", tooltip="first_seed + index"),
                io.Boolean.Output("right", display_name="right", tooltip="whether every count is right"),
                io.String.Output("text", display_name="text"),
            ],
        )

    @classmethod
    def execute(cls, images: Tensor, counts: str, detector: str = AUTO, first_seed: int = 0) -> Any:
        targets = {target.object_name: target.target_count for target in targets_from(counts)}
        distances, texts = [], []
        for _, detections in detected(images, list(targets), detector):
            numbers = list(map(len, detections))
            distance = sum(abs(number - target) for number, target in zip(numbers, targets.values(), strict=True))
            distances.append((distance, -mean_score(detections)))  # of equally near ones the one detected most clearly
            texts.append(counts_in_words(numbers, targets))
        index = distances.index(min(distances))
        right = distances[index][0] == 0
        return io.NodeOutput(images[index : index + 1], index, first_seed + index, right, texts[index])


class GenerateRightCount(io.ComfyNode):
    """Generate an image with the count of the prompt, with countgen's own pipeline."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="CountgenGenerateRightCount",
            display_name="Generate with the right count",
            category="countgen",
            description="Generates an image with the number of objects that the prompt asks for, through diffusers.",
            inputs=[
                io.String.Input("prompt", default="a photo of seven apples", multiline=True),
                io.String.Input("model", default="miniature", tooltip="a preset, OWNER/NAME on the hub, or a folder"),
                io.Int.Input("seed", default=0, min=0, max=2**32 - 1, control_after_generate=True),
                io.Combo.Input("method", options=list(methods.available()), default="auto"),
                io.Int.Input("max_evaluations", default=60, min=1, max=10_000, tooltip="images generated at most"),
                io.String.Input(
                    "counts", default="", optional=True, tooltip=f"in place of the prompt's: {TARGETS_TOOLTIP}"
                ),
            ],
            outputs=[
                io.Image.Output("image", display_name="image"),
                io.Image.Output("before", display_name="before", tooltip="what the seed gives without countgen"),
                io.Boolean.Output(
                    "right", display_name="right", tooltip="whether an independent judge counts as the prompt asks"
                ),
                io.String.Output("text", display_name="text", tooltip="the judge's counts"),
                io.String.Output("recipe", display_name="recipe", tooltip="JSON; reproduces the image with countgen"),
            ],
        )

    @classmethod
    def execute(cls, prompt: str, model: str, seed: int, method: str, max_evaluations: int, counts: str = "") -> Any:
        targets = targets_from(counts) if counts.strip() else None
        progress = ProgressBar(max_evaluations)
        with torch.inference_mode(False), torch.enable_grad():
            run = Run(
                prompt, _models(model), targets=targets, seed=seed, method=method, max_evaluations=max_evaluations
            )
            for step in run:
                model_management.throw_exception_if_processing_interrupted()
                progress.update_absolute(step.evaluations, preview=("JPEG", to_pil(step.image), None))
            result = run.result()
            images = (_to_comfy(result.image)[None], _to_comfy(result.before)[None])  # the latter is rendered now
        text = counts_in_words(result.judge_counts, {t.object_name: t.target_count for t in result.targets})
        return io.NodeOutput(*images, bool(result.verified), text, json.dumps(result.recipe))


class CountgenExtension(ComfyExtension):
    """The nodes of this package."""

    async def get_node_list(self) -> list[type[Any]]:
        return [CountObjects, PickRightCount, GenerateRightCount, CountGate]


async def comfy_entrypoint() -> CountgenExtension:
    """Return the extension; ComfyUI calls this once."""
    return CountgenExtension()


@lru_cache(maxsize=1)
def _models(name: str) -> Models:
    model_management.unload_all_models()  # countgen's pipeline shares the device with what ComfyUI holds there
    return countgen.load(name, device=model_management.get_torch_device())


def _as_dicts(boxes: Tensor) -> list[dict[str, int]]:
    """Return absolute-pixel xyxy boxes as ComfyUI's bounding boxes."""
    corners = boxes.round().int().tolist()
    return [{"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1} for x1, y1, x2, y2 in corners]


def _to_comfy(image: Tensor) -> Tensor:
    """Return an image (3, H, W) as ComfyUI's (H, W, 3) on the CPU."""
    return image.detach().float().clamp(0, 1).movedim(0, -1).cpu()
