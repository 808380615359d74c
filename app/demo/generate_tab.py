"""The tab that generates images."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from dataclasses import fields, replace
from typing import Any

import gradio as gr

import countgen
from countgen.app.demo import example, result_view
from countgen.app.demo.gallery import entry_of, gallery, zip_link
from countgen.app.demo.generate_form import RANDOM_SEED, GenerateForm, form_of
from countgen.app.demo.html import chips, counts_line, hint, model_line, sentence
from countgen.app.demo.job_queue import AT_ONCE, MODELS, PRIVATE, QUIET, JobQueue
from countgen.app.demo.limits import Limits, RefusedError
from countgen.app.demo.model_cache import ModelCache
from countgen.app.demo.options import SHIPPED, Options
from countgen.app.demo.previews import previews
from countgen.app.demo.refusals import errors_shown, event_field
from countgen.app.demo.session import GalleryEntry, Session
from countgen.app.demo.settings_form import settings_form
from countgen.app.demo.uploads import FILE_JS, decoded_recipe, file_field
from countgen.errors import PromptError
from countgen.prompts import Target

PROMPTS = ("seven apples", "nine butterflies in the snow", "five cats and three dogs", "ten strawberries on a table")
EXAMPLE = example.load()

_PICK = (
    "element.addEventListener('click', event => { const button = event.target.closest('button[data-index]');"
    "if (button) trigger('select', {index: Number(button.dataset.index)}); });"
)
_CLICK_LINK = "() => setTimeout(() => document.querySelector('#zip a').click(), 100)"


class GenerateTab:
    """The widgets of the tab and their event handlers.

    Attributes:
        form: the fields, in the order of `GenerateForm`.
        filled: what `fill` returns values for: the fields, and the form of the method's settings.
    """

    def __init__(self, limits: Limits, model_cache: ModelCache, session: gr.State, queue: JobQueue) -> None:
        self.limits, self.model_cache, self.queue = limits, model_cache, queue
        self._lay_out()
        self._connect(session)

    def _lay_out(self) -> None:
        limits = self.limits
        with gr.Row(elem_classes="workbench"):
            with gr.Column(scale=4, min_width=300, elem_classes="controls"):
                gr.HTML(model_line(limits.backbones[0]), elem_id="model-line")
                self.prompt = gr.Textbox(
                    label="Prompt",
                    value="a photo of seven apples",
                    placeholder="a photo of seven apples",
                    max_length=limits.max_prompt_length,
                    lines=1,  # with more, Enter would insert a line break instead of submitting
                    max_lines=4,
                    submit_btn=False,
                    elem_id="prompt",
                    autofocus=True,
                )
                self.parsed = gr.HTML(self.read(self.prompt.value, limits.backbones[0])[0], elem_id="parsed")
                with gr.Row(elem_classes="buttons"):
                    self.go = gr.Button("Generate", variant="primary", elem_id="go", scale=3)
                    self.stop = gr.Button("Stop", variant="stop", elem_id="stop", scale=2)
                    self.leave = gr.Button("Leave the queue", elem_id="leave", scale=2)
                with gr.Row(elem_classes="examples"):
                    self.prompts = [gr.Button(text, size="sm", min_width=60) for text in PROMPTS]
                with gr.Column(elem_classes="options"):
                    self.options = Options(limits)
                    self.given = gr.HTML(
                        file_field(
                            "Restore the settings of a PNG of countgen (choose or drop it)", ".png", "restore-file"
                        ),
                        elem_id="restore",
                        js_on_load=FILE_JS,
                    )
                    self.restored = gr.HTML("", elem_id="restored")
            with gr.Column(scale=6, min_width=300):
                self.stage = gr.HTML(EXAMPLE.view, elem_id="stage")
                with gr.Row(elem_id="next"):
                    self.longer = gr.Button("Try longer", size="sm", min_width=60)
                    self.new_seed = gr.Button("New seed", size="sm", min_width=60)
                    self.until_judge = gr.Button("Until the judge agrees", size="sm", min_width=60)
                    self.change = gr.Button("Change the count", size="sm", min_width=60, elem_id="change")
                    self.reuse = gr.Button("Use these settings", size="sm", min_width=60)
        self.pictures = gr.HTML("", elem_id="pictures", js_on_load=_PICK)
        with gr.Row(elem_id="save-all"):
            self.save = gr.Button("Save all as zip", size="sm", min_width=60)
            self.zip = gr.HTML("", elem_id="zip")
        options = self.options
        self.token, self.method, self.backbone = options.token, options.method, options.backbone
        by_name = {**vars(options), "prompt": self.prompt}
        self.form = [by_name[field.name] for field in fields(GenerateForm)]
        self.filled = [*self.form, options.settings_form]

    def _connect(self, session: gr.State) -> None:
        """Connect the events to their functions."""
        shown, form = self.stage, self.form
        gr.on(
            [self.prompt.input, self.prompt.change, self.backbone.input],
            self.read,
            inputs=[self.prompt, self.backbone],
            outputs=[self.parsed, self.go],
            show_progress="hidden",
            trigger_mode="always_last",
            queue=False,
            api_name="parse",
        )
        generating = {
            "fn": self.generate_shown,
            "inputs": [*form, session],
            "outputs": [shown, self.pictures],
            **MODELS,
            "show_progress": "minimal",
            "show_progress_on": self.parsed,
        }
        preparing = {"fn": self.begin, "inputs": [*form, session], "outputs": shown, **AT_ONCE, **PRIVATE}
        watching = {"fn": self.queue.watch, "inputs": session, "outputs": shown, **AT_ONCE, **PRIVATE}
        leaving = {"fn": leave_queue, "inputs": session, "outputs": shown, **QUIET}
        begun = [gr.on([self.go.click, self.prompt.submit], **preparing)]
        jobs = [begun[0].success(**generating, api_name="generate_view", api_visibility="undocumented")]
        for button in self.prompts:
            filled = button.click(lambda text: text, inputs=button, outputs=self.prompt, **QUIET)
            begun.append(filled.then(**preparing))
        for button, changed in (
            (self.longer, self.try_longer),
            (self.new_seed, self.with_new_seed),
            (self.until_judge, self.until_the_judge_agrees),
        ):
            filled = button.click(changed, inputs=session, outputs=self.filled, **QUIET)
            begun.append(filled.success(**preparing))
        jobs += [one.success(**generating, api_visibility="private") for one in begun[1:]]
        for one in begun:
            one.success(**watching)
        for job in jobs:
            job.failure(**leaving)
        self.leave.click(**leaving, cancels=jobs)
        self.stop.click(Session.stop, inputs=session, queue=False, show_progress="hidden", api_name="stop")
        self.reuse.click(self.shown_settings, inputs=session, outputs=self.filled, **QUIET)
        self.options.reuse_seed.click(self.shown_seed, inputs=session, outputs=self.options.seed, **QUIET)
        self.pictures.select(self.show_again, inputs=session, outputs=shown, **QUIET)
        saved = self.save.click(self.zipped, inputs=session, outputs=self.zip, **QUIET)
        saved.then(None, js=_CLICK_LINK, **PRIVATE)
        self.given.upload(
            self.restore,
            inputs=session,
            outputs=[*self.filled, self.restored],
            **QUIET | {"api_visibility": "undocumented"},
            api_name="restore",
        )

    def read(self, prompt: str, backbone: str) -> tuple[str, Any]:
        """Return the targets of a prompt while the visitor types, or why it is refused; the button follows."""
        try:
            return chips(self.targets(prompt, backbone)), gr.update(interactive=True)
        except (PromptError, ValueError) as error:
            return f"<p class='hint refused' role='status'>{sentence(error)}</p>", gr.update(interactive=False)

    def begin(self, *values: Any) -> str:
        """Refuse bad input before it enters the queue; from now on Stop has an effect."""
        *given, session = values
        with errors_shown():
            form = GenerateForm(*given).checked(self.limits)
            self.targets(form.prompt, form.backbone)
        session.begin()
        return result_view.queued()

    def targets(self, prompt: object, backbone: object) -> tuple[Target, ...]:
        """Return the targets of a prompt.

        Raises:
            PromptError, RefusedError, ValueError: the prompt has no clear count, or the model cannot count its objects.
        """
        text, name = self.limits.check_prompt(prompt), self.limits.check_backbone(backbone)
        targets = self.limits.check_targets(countgen.parse(text, self.model_cache.object_names(name)))
        self.model_cache.check(name, targets)
        return targets

    async def generate_shown(self, *values: Any) -> AsyncIterator[tuple[str, str]]:
        """Generate images with live previews; the last item is a judged result, also after Stop."""
        *given, session = values
        async for shown in self.model_cache.run_in_worker(self._generated(GenerateForm(*given), session), session):
            yield shown

    def _generated(self, form: GenerateForm, session: Session) -> Generator[tuple[str, str], None, None]:
        if session.busy and session.stopping:
            yield leave_queue(session), gallery(session.gallery)
            return
        session.begin()
        try:
            with errors_shown():
                form = form.checked(self.limits)
            yield result_view.starting(self.model_cache.is_loaded(form.backbone)), gallery(session.gallery)
            models = self.model_cache.sampled(form.backbone, *form.sampling(self.limits))
            made: list[GalleryEntry] = []
            for number in range(form.images):
                with errors_shown():
                    targets = self.targets(form.prompt, form.backbone)
                    run = form.run(models, targets, session, self.limits, number)
                title = f"Image {number + 1} of {form.images} · " if form.images > 1 else ""
                history: list[result_view.HistoryEntry] = []
                for view in previews(run, session, history, form.seconds, title):
                    yield view, gallery(session.gallery)
                ending = " Stopped by you: this is the best image so far." if session.stopping else ""
                own = replace(form, seed=form.seed + number, images=1)
                made.append(entry_of(run.result(), history, own, ending=ending))
                session.keep_image(made[-1], self.limits.max_images)
                if session.stopping:
                    break
            session.shown = max(made, key=lambda entry: entry.correct)  # the first that is correct
            yield session.shown.view + counts_line(made), gallery(session.gallery)
        finally:
            session.end()

    def fill(self, form: GenerateForm, session: Session) -> list[Any]:
        """Return the values of `filled` for a form."""
        values = {name: "" if value is None else value for name, value in vars(form).items()}
        values["token"] = self.token_choices(session, form.token)
        return [*values.values(), self._settings(form.method, form.settings)]

    def _settings(self, method: str, text: str = "") -> str:
        return settings_form(self.limits, self.limits.check_method(method), text)

    def shown_settings(self, session: Session) -> list[Any]:
        """Fill the form with the settings of the image on the page."""
        return self.fill(self._shown(session).form, session)

    def shown_seed(self, session: Session) -> int:
        """Return the seed of the image on the page."""
        return self._shown(session).form.seed

    def try_longer(self, session: Session) -> list[Any]:
        """Fill the form with the settings of the image on the page and the next longer time limit."""
        form = self._shown(session).form
        longer = [seconds for seconds in self.limits.seconds if seconds > form.seconds]
        method = self.limits.methods[0] if form.method == "plain" else form.method
        settings = form.settings if method == form.method else ""
        seconds = min(longer, default=form.seconds)
        return self.fill(replace(form, seconds=seconds, method=method, settings=settings), session)

    def with_new_seed(self, session: Session) -> list[Any]:
        """Fill the form with the settings of the image on the page and a random seed."""
        return self.fill(replace(self._shown(session).form, seed=RANDOM_SEED), session)

    def until_the_judge_agrees(self, session: Session) -> list[Any]:
        """Fill the form with the settings of the image on the page, and let the judge end the run."""
        return self.fill(replace(self._shown(session).form, until="judge"), session)

    def restore(self, session: Session, event: gr.EventData) -> list[Any]:
        """Fill the form with the settings in the recipe of an uploaded image."""
        with errors_shown():
            recipe = decoded_recipe(event_field(event, "data"), self.limits.max_image_bytes)
            form = form_of(recipe, session)
            form = replace(form, seconds=self.limits.seconds[1])
            form.checked(self.limits)
            return [*self.fill(form, session), hint(f"Restored: {form.prompt}, seed {form.seed}. Press Generate.")]

    def zipped(self, session: Session) -> str:
        """Return a link to all images of this visitor."""
        with errors_shown():
            if not session.gallery:
                raise RefusedError("There is no image to save yet.")
        return zip_link(session.gallery)

    def token_choices(self, session: Session, chosen: str) -> object:
        """Return an update of the token field: the tokens of this visitor, one of them selected."""
        return gr.update(choices=[*SHIPPED, *((name, name) for name in session.tokens)], value=chosen)

    def show_again(self, session: Session, event: gr.EventData) -> str:
        """Return the result view of a gallery entry."""
        index = event_field(event, "index")
        if not isinstance(index, int) or not 0 <= index < len(session.gallery):
            return result_view.EMPTY
        session.shown = session.gallery[index]
        return session.shown.view

    @staticmethod
    def _shown(session: Session) -> GalleryEntry:
        return session.shown or EXAMPLE


def leave_queue(session: Session) -> str:
    """Show the latest image again, at first the example, after a job was cancelled in the queue or failed."""
    session.end()
    return (session.shown or EXAMPLE).view or result_view.EMPTY
