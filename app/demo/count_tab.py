"""The tab that counts objects in an uploaded image."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import gradio as gr
from PIL import Image

from countgen.app.demo.html import hint
from countgen.app.demo.image_html import overlay, zoomable
from countgen.app.demo.job_queue import MODELS
from countgen.app.demo.limits import Limits, RefusedError
from countgen.app.demo.model_cache import ModelCache
from countgen.app.demo.refusals import errors_shown, event_field
from countgen.app.demo.uploads import PHOTO_JS, decoded_image, file_field
from countgen.critics import Detections
from countgen.critics.validation import to_batch
from countgen.critics.vocabulary import singular
from countgen.prompts.plurals import counted

ACCEPTED = "image/png,image/jpeg,image/webp"
DETECTORS = {
    "nanodet": "nanodet: photographs, COCO's 80 classes",
    "miniature-fcos": "miniature-fcos: images of the embedded model",
    "miniature-yolo": "miniature-yolo: images of the embedded model",
}
EMPTY = (
    "<section class='stage empty'><div class='canvas'><p>The image appears here, with boxes.</p></div>"
    + hint("The image is read in memory and not kept; at most 1 MiB and four megapixels, PNG, JPEG or WebP.")
    + "</section>"
)


class CountTab:
    """The widgets of the tab and their event handlers."""

    def __init__(self, limits: Limits, model_cache: ModelCache) -> None:
        self.limits, self.model_cache = limits, model_cache
        with gr.Row(elem_classes="workbench"):
            with gr.Column(scale=4, min_width=280, elem_classes="controls"):
                names = gr.Textbox(
                    "person",
                    label="Objects to count, separated by commas",
                    max_length=limits.max_prompt_length,
                    elem_id="count-names",
                )
                detector = gr.Dropdown(
                    [(DETECTORS.get(name, name), name) for name in limits.detectors],
                    value=limits.detectors[0],
                    label="Detector",
                    elem_id="detector",
                )
                given = gr.HTML(
                    file_field("Image (choose or drop it)", ACCEPTED, "photo")
                    + "<button type='button' class='again'>Count again</button>",
                    elem_id="photo-given",
                    js_on_load=PHOTO_JS,
                )
            with gr.Column(scale=6, min_width=280):
                shown = gr.HTML(EMPTY, elem_id="counted")
        given.upload(
            self.count,
            inputs=[names, detector],
            outputs=shown,
            **MODELS,
            show_progress="minimal",
            show_progress_on=given,
            api_name="count_view",
            api_visibility="undocumented",
        )

    def count(self, names: str, detector: str, event: gr.EventData) -> str:
        """Return an uploaded image with the boxes and the counts of its objects."""
        image, found = self.counted(event_field(event, "data"), names, detector)
        boxes = overlay((image.height, image.width), found)
        ratio = f"aspect-ratio:{image.width}/{image.height}"
        framed = zoomable(image, "Uploaded image", boxes, kind="natural", style=ratio)
        said = " and ".join(f"{len(one)} {counted(one.object_name, len(one))}" for one in found)
        return (
            f"<section class='stage counted'>{framed}"
            f"<p class='verdict' role='status'>{escape(detector)} counts {escape(said)}.</p>"
            "<div class='actions'><label class='switch'>"
            "<input type='checkbox' class='show-boxes' checked> Boxes</label></div>"
            + hint(
                "A detector makes mistakes: check the boxes. nanodet was trained on photographs, the other detectors "
                "on images of the embedded model."
            )
            + "</section>"
        )

    def counted(self, data: object, names: object, detector: object) -> tuple[Image.Image, tuple[Detections, ...]]:
        """Return an uploaded image, and the detections in it by object.

        Raises:
            gr.Error: no image, no object names, or one that the detector does not know.
        """
        with errors_shown():
            name = self.limits.check_detector(detector)
            wanted = self._names(names)
            image = decoded_image(data, self.limits.max_image_bytes, self.limits.max_image_pixels)
        return image, self.model_cache.call_in_worker(self._detected, image, wanted, name)

    def _detected(self, image: Image.Image, names: Sequence[str], detector: str) -> tuple[Detections, ...]:
        critic = self.model_cache.detector(detector)
        with errors_shown():
            for name in names:
                self.model_cache.check_known(critic, name)
            critic.check_distinct(names)
        return critic.detect(to_batch(image), list(names))[0]

    def _names(self, names: object) -> tuple[str, ...]:
        """Return the object names of a text, in the singular."""
        text = names if isinstance(names, str) else ""
        found = tuple(dict.fromkeys(singular(name.strip()) for name in text.split(",") if name.strip()))
        if not found:
            raise RefusedError("Name the objects to count, for example: person, bus.")
        return self.limits.check_object_names(found)
