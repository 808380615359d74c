"""The tab that changes the count of one image and keeps the rest of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from typing import Any

import gradio as gr
import torch

from countgen.app.demo import edit_view, result_view
from countgen.app.demo.edit_fields import MOST_OFFSET, EditFields
from countgen.app.demo.gallery import entry_of, gallery
from countgen.app.demo.generate_form import GenerateForm, edited_form, find_token, form_of
from countgen.app.demo.generate_tab import EXAMPLE, GenerateTab
from countgen.app.demo.html import target_list
from countgen.app.demo.image_html import detect, overlay, png_bytes, shown_uri
from countgen.app.demo.image_pair import Side, caption
from countgen.app.demo.job_queue import AT_ONCE, MODELS, PRIVATE, QUIET
from countgen.app.demo.limits import Limits, RefusedError
from countgen.app.demo.model_cache import ModelCache
from countgen.app.demo.previews import previews
from countgen.app.demo.refusals import errors_shown, event_field
from countgen.app.demo.result_view import size_of
from countgen.app.demo.session import GalleryEntry, Session
from countgen.app.demo.uploads import decoded_recipe
from countgen.app.image_files import slug
from countgen.editing import edit_run, targets_of
from countgen.models import Models
from countgen.number_slider import encode_shifted
from countgen.prompts import Target
from countgen.prompts.plurals import plural
from countgen.recipe import check as check_recipe
from countgen.recipe import regenerate
from countgen.recipe_fields import latents_of, negative_prompt_of
from countgen.tokens.file import CountToken


class EditTab:
    """The widgets of the tab and their event handlers. It edits the image that the Generate tab shows."""

    def __init__(
        self,
        limits: Limits,
        model_cache: ModelCache,
        session: gr.State,
        generate_tab: GenerateTab,
        tabs: gr.Tabs,
        tab: gr.Tab,
    ) -> None:
        self.limits, self.model_cache, self.generate_tab = limits, model_cache, generate_tab
        with gr.Row(elem_classes="workbench image-first"):
            with gr.Column(scale=4, min_width=280, elem_classes="controls"):
                fields = self.fields = EditFields(limits, targets_of(EXAMPLE.recipe))
            with gr.Column(scale=6, min_width=280):
                self.stage = gr.HTML(edit_view.opened(EXAMPLE), elem_id="editing")
        opened = {"inputs": session, "outputs": [self.stage, fields.name, fields.count, fields.slider]}
        tab.select(self.open, **opened, **QUIET)
        switched = generate_tab.change.click(lambda: gr.Tabs(selected="edit"), outputs=tabs, **QUIET)
        switched.then(self.open, **opened, **QUIET)
        fields.given.upload(
            self.upload,
            **opened,
            **MODELS,
            show_progress="hidden",
            api_name="edit_upload",
            api_visibility="undocumented",
        )
        fields.name.input(self.named, inputs=[fields.name, session], outputs=[fields.count, fields.slider], **QUIET)
        fields.slider.input(
            self.slide,
            inputs=[fields.slider, fields.name, session],
            outputs=self.stage,
            **MODELS,
            show_progress="hidden",
            trigger_mode="always_last",
            api_name="slide",
            api_visibility="undocumented",
        )
        inputs = [fields.name, fields.count, fields.seconds, session]
        preparing = {"fn": self.begin, "inputs": inputs, "outputs": [self.stage, fields.slider], **AT_ONCE, **PRIVATE}
        editing = {
            "fn": self.edit_shown,
            "inputs": inputs,
            "outputs": [self.stage, generate_tab.stage, generate_tab.pictures],
            **MODELS,
            "show_progress": "minimal",
            "show_progress_on": fields.given,
        }
        begun = [
            fields.go.click(**preparing),
            *(
                button.click(
                    lambda count, by=by: max(1, (count or 1) + by), inputs=fields.count, outputs=fields.count, **QUIET
                ).success(**preparing)
                for button, by in ((fields.fewer, -1), (fields.more, 1))
            ),
        ]
        jobs = [
            begun[0].success(**editing, api_name="edit_view", api_visibility="undocumented"),
            *(one.success(**editing, api_visibility="private") for one in begun[1:]),
        ]
        for one in begun:
            one.success(generate_tab.queue.watch, inputs=session, outputs=self.stage, **AT_ONCE, **PRIVATE)
        leaving = {"fn": self.leave, "inputs": session, "outputs": self.stage, **QUIET}
        for job in jobs:
            job.failure(**leaving)
        fields.leave.click(**leaving, cancels=jobs)
        fields.stop.click(Session.stop, inputs=session, **QUIET)

    def open(self, session: Session) -> tuple[Any, ...]:
        """Show the image of the Generate tab with its objects and counts."""
        entry = session.shown or EXAMPLE
        names = [target.object_name for target in targets_of(entry.recipe)]
        return edit_view.opened(entry), gr.update(choices=names, value=names[0]), *self.named(names[0], session)

    def named(self, name: str, session: Session) -> tuple[Any, Any]:
        """Return the count of an object of the image, and the slider's range for it."""
        recipe = (session.shown or EXAMPLE).recipe
        found = [target for target in targets_of(recipe) if target.object_name == name]
        count = found[0].target_count if found else 1
        low, high = self.model_cache.offsets(str(recipe["backbone"]), count) or (-MOST_OFFSET, MOST_OFFSET)
        return count, gr.update(minimum=low, maximum=high, value=0)

    def leave(self, session: Session) -> str:
        """Show the image again after a job was cancelled in the queue or failed."""
        session.end()
        return edit_view.opened(session.shown or EXAMPLE)

    def begin(self, name: str, count: float, seconds: int, session: Session) -> tuple[str, int]:
        """Refuse bad input before it enters the queue; from now on Stop has an effect, and the slider is at rest."""
        with errors_shown():
            self._counts(name, count, session)
            self.limits.check_seconds(seconds)
        session.begin()
        return result_view.queued(), 0

    async def edit_shown(
        self, name: str, count: float, seconds: int, session: Session
    ) -> AsyncIterator[tuple[Any, ...]]:
        """Edit the image with live previews; the last item is the judged result, also after Stop."""
        async for shown in self.model_cache.run_in_worker(self._edited(name, count, seconds, session), session):
            yield shown

    def _edited(
        self, name: str, count: float, seconds: int, session: Session
    ) -> Generator[tuple[Any, ...], None, None]:
        entry = session.shown or EXAMPLE
        if session.busy and session.stopping:
            session.end()
            yield edit_view.opened(entry), gr.skip(), gr.skip()
            return
        session.begin()
        try:
            with errors_shown():
                counts, limit = self._counts(name, count, session), self.limits.check_seconds(seconds)
                models, token = self.models_of(entry.recipe), self._token(entry.recipe, session)
                run = edit_run(entry.recipe, models, counts=counts, token=token, max_seconds=limit)
            history: list[result_view.HistoryEntry] = []
            for view in previews(run, session, history, limit):
                yield view, gr.skip(), gr.skip()
            result = run.result()
            ending = " Stopped by you: this is the best image so far." if session.stopping else ""
            form = edited_form(entry.form, run.prompt)
            made = entry_of(result, history, form, original=True, ending=ending)
            session.keep_image(made, self.limits.max_images)
            if not result.verified:
                session.shown = entry  # a further try starts from the original again
            yield made.view, made.view, gallery(session.gallery)
        finally:
            session.end()

    def slide(self, offset: float, name: str, session: Session) -> str:
        """Return the image with its prompt moved along the number axis."""
        return self.model_cache.call_in_worker(self._slid, offset, name, session)

    def _slid(self, offset: float, name: str, session: Session) -> str:
        entry = session.shown or EXAMPLE
        recipe = entry.recipe
        with errors_shown():
            targets = self._targets(name, session)
            models = self.models_of(recipe)
            if self._token(recipe, session) is not None:
                raise RefusedError("This image was generated with a count token; the number slider moves number words.")
            shifts = self.model_cache.shifts(recipe, models, name, offset)
        backbone, seed = models.backbone, recipe["candidate_seed"]
        with torch.no_grad():
            before = regenerate(recipe, backbone)
            embeds = encode_shifted(backbone, recipe["prompt"], None, shifts, negative_prompt_of(recipe))
            image = backbone.render(latents_of(recipe, backbone), embeds, [seed])[0]
        names = [target.object_name for target in targets]
        counts = models.required_judge.counts(image[None], names)[0].tolist()
        found_before, found = (
            detect(models.required_judge, before, targets),
            detect(models.required_judge, image, targets),
        )
        moved = {**recipe, "number_shifts": [shift.as_dict() for shift in shifts], "judge_counts": counts}
        return edit_view.moved(
            Side(before, found_before, caption("Original", found_before), "Original", f"seed {seed}"),
            Side(image, found, caption(f"Moved by {offset:+g}", found), "Moved"),
            targets,
            offset,
            counts,
            png_bytes(image, moved),
            f"{slug(recipe['prompt'])}-{seed}-moved.png",
        )

    def upload(self, session: Session, event: gr.EventData) -> tuple[Any, ...]:
        """Open an uploaded image of countgen, generated again from its recipe."""
        with errors_shown():
            recipe = decoded_recipe(event_field(event, "data"), self.limits.max_image_bytes)
            form = form_of(recipe, session)
            form.checked(self.limits)
            token = self._token(recipe, session)
            check_recipe(recipe, token=token)
        session.shown = self.model_cache.call_in_worker(self._regenerated, recipe, form, token)
        return self.open(session)

    def _regenerated(self, recipe: dict[str, Any], form: GenerateForm, token: CountToken | None) -> GalleryEntry:
        with errors_shown():
            targets, models = targets_of(recipe), self.models_of(recipe)
            image = regenerate(recipe, models.backbone, token)
        boxes = overlay(size_of(image), detect(models.required_judge, image, targets))
        return GalleryEntry(
            title=target_list(targets),
            correct=False,
            preview=shown_uri(image),
            boxes=boxes,
            view="",
            file_name="",
            png=b"",
            recipe=recipe,
            form=form,
        )

    def models_of(self, recipe: Any) -> Models:
        """Return the models that an image was generated with."""
        name = self.limits.check_backbone(recipe["backbone"])
        steps = self.limits.check_inference_steps(recipe["num_inference_steps"])
        return self.model_cache.sampled(name, steps, self.limits.check_guidance(recipe["guidance_scale"]))

    def _token(self, recipe: Any, session: Session) -> CountToken | None:
        """Return the token that an image was generated with."""
        form = form_of(recipe, session)
        return find_token(form.token, targets_of(recipe), form.backbone, session)

    def _counts(self, name: object, count: object, session: Session) -> dict[str, int]:
        """Return the new count by object name, after checking it."""
        targets, number = self._targets(name, session), self.limits.check_count(count)
        changed = tuple(Target(t.object_name, number if t.object_name == name else t.target_count) for t in targets)
        self.model_cache.check(str((session.shown or EXAMPLE).recipe["backbone"]), changed)
        return {str(name): number}

    @staticmethod
    def _targets(name: object, session: Session) -> tuple[Target, ...]:
        """Return the targets of the image, one of which has this name."""
        targets = targets_of((session.shown or EXAMPLE).recipe)
        if name not in [target.object_name for target in targets]:
            known = ", ".join(plural(target.object_name) for target in targets)
            raise RefusedError(f"The image shows {known}; choose one of them.")
        return targets
