"""ComfyUI node: images with the right count go one way, all others another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from comfy_api.latest import io, ui
from comfy_execution.graph import ExecutionBlocker
from torch import Tensor

from countgen.app.comfyui.detection import DETECTOR_TOOLTIP, TARGETS_TOOLTIP, find_critic, prepared, with_boxes
from countgen.detector_choice import AUTO
from countgen.methods import DEFAULT_SURE
from countgen.prompts import parse, targets_from
from countgen.prompts.plurals import counts_in_words
from countgen.verification import verify


class CountGate(io.ComfyNode):
    """Divide a batch into images whose count is right and the others; an empty branch is not executed."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="CountgenCountGate",
            display_name="Count gate",
            category="countgen",
            description="Lets images with the right count pass. What is connected to an empty output does not run.",
            inputs=[
                io.Image.Input("images"),
                io.String.Input(
                    "prompt", default="a photo of five apples", multiline=True, tooltip="says how many of what"
                ),
                io.Float.Input(
                    "sure",
                    default=DEFAULT_SURE,
                    min=0.01,
                    max=0.999,
                    step=0.01,
                    tooltip="least probability of a right count; lower lets more images pass",
                ),
                io.String.Input(
                    "detector",
                    default=AUTO,
                    tooltip=f"{DETECTOR_TOOLTIP}; several, separated by commas, must agree, and the first one counts",
                ),
                io.String.Input(
                    "counts", default="", optional=True, tooltip=f"in place of the prompt's: {TARGETS_TOOLTIP}"
                ),
            ],
            outputs=[
                io.Image.Output("accepted", display_name="accepted"),
                io.Image.Output("rejected", display_name="rejected"),
                io.Int.Output("number", display_name="number", tooltip="of accepted images"),
                io.String.Output("text", display_name="text", tooltip="one line for each image"),
                io.Image.Output("boxes_drawn", display_name="boxes drawn", tooltip="all images, as in the preview"),
            ],
        )

    @classmethod
    def execute(cls, images: Tensor, prompt: str, sure: float, detector: str, counts: str = "") -> Any:
        targets = targets_from(counts) if counts.strip() else parse(prompt)
        target_counts = {target.object_name: target.target_count for target in targets}
        names = list(target_counts)
        rows: tuple[list[int], list[int]] = ([], [])  # rejected, accepted
        drawn, lines = [], []
        with torch.inference_mode(False), torch.no_grad():
            critics = [find_critic(name, names) for name in detector.split(",")]
            for index, image in enumerate(prepared(images)):
                (verdict,) = verify(image, critics, targets)
                (detections,) = critics[0].detect(image, names)
                accepted = verdict.probability >= sure
                rows[accepted].append(index)
                line = f"{counts_in_words(verdict.counts, target_counts)}, {verdict.probability:.1%} sure"
                lines.append(f"{line}: {'accepted' if accepted else 'rejected'}")
                drawn.append(with_boxes(image[0], detections, line))
        batch = torch.stack(drawn)
        return io.NodeOutput(
            _of(images, rows[True]),
            _of(images, rows[False]),
            len(rows[True]),
            "\n".join(lines),
            batch,
            ui=ui.PreviewImage(batch, cls=cls),
        )


def _of(images: Tensor, rows: Sequence[int]) -> Any:
    """Return rows of a batch; without any, what keeps ComfyUI from executing the nodes behind the output."""
    return images[list(rows)] if rows else ExecutionBlocker(None)
