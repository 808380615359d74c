"""The fields of the Edit tab."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr

from countgen.app.demo.html import hint
from countgen.app.demo.limits import Limits
from countgen.app.demo.uploads import FILE_JS, file_field
from countgen.prompts import Target

MOST_OFFSET = 6
"""Range of the slider before the model is loaded."""


class EditFields:
    """The widgets, for an image with these targets until another one is opened."""

    def __init__(self, limits: Limits, targets: Sequence[Target]) -> None:
        gr.HTML(hint("The image is the one that Generate shows. Only as much of it changes as its count needs."))
        self.name = gr.Dropdown(
            [target.object_name for target in targets],
            value=targets[0].object_name,
            label="Objects",
            elem_id="edit-object",
        )
        with gr.Row(elem_classes="count"):
            self.count = gr.Number(
                targets[0].target_count,
                label="New count",
                precision=0,
                minimum=1,
                maximum=limits.max_count,
                min_width=90,
                elem_id="new-count",
            )
            self.fewer = gr.Button("One fewer", size="sm", min_width=60)
            self.more = gr.Button("One more", size="sm", min_width=60, elem_id="one-more")
        self.seconds = gr.Dropdown(
            [(f"{s} seconds", s) for s in limits.seconds],
            value=limits.seconds[2],
            label="Time limit",
            elem_id="edit-seconds",
        )
        with gr.Row(elem_classes="buttons"):
            self.go = gr.Button("Edit", variant="primary", elem_id="edit", scale=3)
            self.stop = gr.Button("Stop", variant="stop", elem_id="stop-editing", scale=2)
            self.leave = gr.Button("Leave the queue", elem_id="leave-editing", scale=2)
        self.slider = gr.Slider(
            -MOST_OFFSET,
            MOST_OFFSET,
            0,
            step=0.5,
            label="Number slider: objects to add or remove on this seed",
            elem_id="slider",
            buttons=[],
        )
        self.given = gr.HTML(
            file_field("Edit a PNG of countgen (choose or drop it)", ".png", "edit-file"),
            elem_id="edit-given",
            js_on_load=FILE_JS,
        )
