"""The page that counts objects in a visitor's own image."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Any

import gradio as gr

from countgen.app.demo.generate_page import QUIET
from countgen.app.demo.images import boxed
from countgen.app.demo.jobs import SECONDS_OF_COUNT, Jobs, errors_shown
from countgen.app.demo.results import status
from countgen.app.demo.worker import Job
from countgen.prompts.plurals import counted

DETECTORS = {
    "nanodet": "nanodet: photographs, the 80 classes of COCO",
    "miniature-fcos": "miniature-fcos: images of the embedded model",
    "miniature-yolo": "miniature-yolo: images of the embedded model",
}


class CountPage:
    """The widgets of the page and their event handlers."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs
        with gr.Row():
            with gr.Column():
                names = gr.Textbox("person", label="Objects to count, separated by commas", elem_id="count-names")
                detectors = [(DETECTORS.get(name, name), name) for name in jobs.limits.detectors]
                detector = gr.Dropdown(detectors, label="Detector", elem_id="detector")
                # Never preprocessed: Gradio's component would open the file by every format that PIL knows.
                photo = gr.Image(
                    label="Image", sources=["upload", "clipboard"], height=240, buttons=[], elem_id="photo"
                )
                go = gr.Button("Count", variant="primary", elem_id="count-go")
            with gr.Column():
                shown = {"interactive": False, "visible": False, "buttons": ["fullscreen"], "format": "webp"}
                self.shown = gr.Image(label="Boxes", elem_id="counted", **shown)
                self.status = gr.HTML(
                    status("Give an image: PNG, JPEG or WebP, up to 10 MiB."), padding=False, elem_id="count-status"
                )
        gr.on(
            [photo.upload, go.click, names.submit],
            self.count,
            [photo, names, detector],
            [self.shown, self.status],
            preprocess=False,
            trigger_mode="once",
            **QUIET,
        )

    async def count(
        self, photo: dict[str, Any] | None, names: str, detector: str, request: gr.Request
    ) -> AsyncIterator[dict[Any, Any]]:
        """Show an uploaded image with boxes and counts; `photo` was checked and holds the path of an upload."""
        if photo is None:
            raise gr.Error("Give an image first.", print_exception=False)
        content = Path(photo["path"]).read_bytes()

        def steps() -> Generator[dict[Any, Any], None, None]:
            yield {self.status: status("Counting …")}
            image, detections = self.jobs.detected(content, names, detector)
            counts = " and ".join(f"{len(one)} {counted(one.object_name, len(one))}" for one in detections)
            yield {
                self.shown: gr.update(value=boxed(image, detections), visible=True),
                self.status: status(f"{detector} counts {counts}.", "", ["Detectors make mistakes: check the boxes."]),
            }

        try:
            with errors_shown():
                async for item in self.jobs.worker.run(Job(request.client.host, SECONDS_OF_COUNT), steps()):
                    yield {self.status: status(item)} if isinstance(item, str) else item
        except gr.Error as error:
            yield {self.shown: gr.update(visible=False), self.status: status(str(error.message), "wrong")}
