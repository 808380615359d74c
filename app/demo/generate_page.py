"""The page that generates images, and changes the number of objects in them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from dataclasses import fields, replace
from typing import Any

import gradio as gr

from countgen import methods
from countgen.app.demo.form import NO_TOKEN, RANDOM_SEED, SHIPPED, GenerateForm, kept_form, uses_guidance
from countgen.app.demo.images import boxed, detect
from countgen.app.demo.jobs import Jobs, edited_form, errors_shown, steps_shown
from countgen.app.demo.limits import SURE, LimitError
from countgen.app.demo.results import Entry, Session, entry_of, live, sentence, status, target_list
from countgen.app.demo.security import private_folder
from countgen.app.demo.worker import Job
from countgen.errors import CountGenError
from countgen.methods.settings import describe

PROMPTS = ("seven apples", "ten strawberries", "five cats and three dogs", "nine butterflies in the snow")
METHODS = {
    "auto": "Auto: search, then refine",
    "search": "Search: the best of many seeds",
    "noise": "Noise: refine one seed after the other",
    "lmn": "LMN: D2D's latent modifier network",
    "edit": "Edit: keep the image of the seed",
    "plain": "Plain: the model alone",
}
SECONDS_BETWEEN_PREVIEWS = 0.25
TEXT = {"lines": 8, "max_lines": 16, "buttons": ["copy"]}
"""Options of a text to copy; a field that cannot be edited could not be reached by the keyboard."""
QUIET = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}
"""Options of every event: it shows its own progress, programs do not call it, and it waits for no other."""

Updates = dict[Any, Any]


class GeneratePage:
    """The widgets of the page and their event handlers.

    Attributes:
        fields, form: the fields by name and as a list, in the order of `GenerateForm`.
        view: what shows an image, as `show` updates it.
    """

    def __init__(self, jobs: Jobs, session: gr.State) -> None:
        self.jobs, self.limits = jobs, jobs.limits
        with gr.Row(elem_id="workbench"):
            with gr.Column(elem_id="ask"):
                self._lay_out_prompt()
            with gr.Column(elem_id="stage"):
                self._lay_out_stage()
            with gr.Column(elem_id="options"):
                options = self._lay_out_options()
        gallery = {"label": "Your images", "height": "auto", "allow_preview": False, "elem_id": "gallery"}
        self.gallery = gr.Gallery(visible=False, **gallery)
        self.fields = {field.name: options.get(field.name, self.prompt) for field in fields(GenerateForm)}
        self.form = list(self.fields.values())
        self.view = list(self.show(Session()))
        self._connect(session)

    def _lay_out_prompt(self) -> None:
        # With more lines than one, Enter would insert a line break instead of submitting.
        prompt, most = "a photo of seven apples", self.limits.max_prompt_length
        self.prompt = gr.Textbox(prompt, label="Prompt", max_length=most, lines=1, max_lines=4, elem_id="prompt")
        self.parsed = gr.Markdown(self.read(prompt, self.limits.backbones[0])[0], elem_id="parsed")
        self.go = gr.Button("Generate", variant="primary", elem_id="go")
        examples = {"samples": [[text] for text in PROMPTS], "label": "Examples", "elem_id": "examples"}
        self.chips = gr.Dataset(components=[self.prompt], type="values", **examples)

    def _lay_out_stage(self) -> None:
        example = self.jobs.example
        options = {"interactive": False, "buttons": ["fullscreen"], "format": "webp"}
        with gr.Row(elem_id="before-after"):
            self.before = gr.Image(label="Baseline", visible=False, elem_id="before", **options)
            self.image = gr.Image(example.images(True)[1], label="Image", elem_id="image", **options)
        self.status = gr.HTML(example.status, padding=False, elem_id="status")
        self.stop = gr.Button("Stop", variant="stop", elem_id="stop", visible=False)
        with gr.Row(elem_id="actions"):
            file = example.file(private_folder())
            self.download = gr.DownloadButton("Download PNG", value=file, size="sm", elem_id="download")
            self.keep = gr.Button("Keep the baseline", size="sm", visible=False, elem_id="keep")
            self.reuse = gr.Button("Use its settings", size="sm", elem_id="reuse")
            self.boxes = gr.Checkbox(True, label="Boxes", container=False, elem_id="boxes")
        self.facts = gr.Markdown(example.facts, elem_id="facts")
        with gr.Row(elem_id="edit-row"):
            names = [target.object_name for target in example.targets]
            self.name = gr.Dropdown(names, label="Objects", elem_id="edit-object")
            count = example.targets[0].target_count
            self.count = whole_number(count, "New number", "new-count", 1, self.limits.max_count)
            self.edit = gr.Button("Change the number", elem_id="edit")
            self.undo = gr.Button("Undo", visible=False, elem_id="undo")
        with gr.Accordion("The same in Python, and its recipe", open=False, elem_id="same"):
            self.python = gr.Textbox(example.python, label="Python", elem_id="same-python", **TEXT)
            self.recipe = gr.Textbox(example.recipe_text, label="Recipe", elem_id="same-recipe", **TEXT)

    def _lay_out_options(self) -> dict[str, Any]:
        limits, options = self.limits, {}
        with gr.Row(elem_id="seed-row"):
            options["seed"] = whole_number(RANDOM_SEED, "Seed", "seed", RANDOM_SEED, 2**32 - 1)
            self.dice = gr.Button("\N{DIE FACE-5} Random: -1", size="sm", elem_id="dice")
            options["images"] = gr.Dropdown(list(limits.images), label="Images", elem_id="images")
        named = [(METHODS.get(name, name), name) for name in limits.methods]
        options["method"] = gr.Dropdown(named, label="Method", elem_id="method")
        with gr.Accordion("More options", open=False):
            with gr.Row():
                options["backbone"] = gr.Dropdown(list(limits.backbones), label="Model", elem_id="model")
                seconds = [(f"{seconds} seconds", seconds) for seconds in limits.seconds]
                field = {"label": "Time limit of an image", "elem_id": "seconds"}
                options["seconds"] = gr.Dropdown(seconds, value=limits.seconds[1], **field)
            ends = [("the detectors that steer confirm the count", "critic"), ("the judge agrees, too", "judge")]
            options["until"] = gr.Dropdown(ends, label="It ends when", elem_id="until")
            options["sure"] = gr.Dropdown(list(SURE), value="sure", label="The detectors must be", elem_id="sure")
            options["token"] = gr.Dropdown(self.token_choices(Session()), label="Count token", elem_id="token")
            guided = uses_guidance(limits.backbones[0])
            options["negative_prompt"] = gr.Textbox(label="Negative prompt", visible=guided, elem_id="negative-prompt")
        with gr.Accordion("For experts", open=False):
            with gr.Row():
                own = {"value": "", "placeholder": "the model's own", "max_length": 10}
                options["num_inference_steps"] = gr.Textbox(label="Sampler steps", elem_id="steps", **own)
                options["guidance_scale"] = gr.Textbox(label="Guidance scale", elem_id="guidance", **own)
            form = "NAME=VALUE, NAME=VALUE"
            options["settings"] = gr.Textbox("", label="Settings of the method", placeholder=form, elem_id="settings")
            self.explained = gr.Markdown(explained(limits.methods[0]))
        self.restored = upload_button("Open a PNG that countgen made", ".png", "restore")
        return options

    def _connect(self, session: gr.State) -> None:
        """Connect the events to their functions."""
        backbone, method, guidance = (self.fields[name] for name in ("backbone", "method", "guidance_scale"))
        typed = {"inputs": [self.prompt, backbone], "outputs": [self.parsed, self.go], "trigger_mode": "always_last"}
        gr.on([self.prompt.change, backbone.change], self.read, **typed, **QUIET)
        gr.on([self.go.click, self.prompt.submit], self.generate, [*self.form, session], self.view, **QUIET)
        edit = [self.name, self.count, self.fields["seconds"], self.fields["until"], session]
        self.edit.click(self.change_number, edit, self.view, **QUIET)
        self.restored.upload(self.open_file, [self.restored, session], [*self.view, *self.form, self.restored], **QUIET)
        self.chips.click(lambda sample: sample[0] if sample else gr.skip(), self.chips, self.prompt, **QUIET)
        self.stop.click(stop, session, **QUIET)
        self.undo.click(self.undone, session, self.view, **QUIET)
        self.keep.click(self.keep_baseline, session, self.view, **QUIET)
        self.boxes.change(self.with_boxes, [self.boxes, session], self.view, **QUIET)
        self.gallery.select(self.select, session, self.view, **QUIET)
        self.name.input(self.count_of, [self.name, session], self.count, **QUIET)
        self.dice.click(lambda: RANDOM_SEED, None, self.fields["seed"], **QUIET)
        self.reuse.click(lambda session: self.filled(self._shown(session).form, session), session, self.form, **QUIET)
        method.change(explained, method, self.explained, **QUIET)
        guided = {"inputs": [backbone, guidance], "outputs": self.fields["negative_prompt"]}
        gr.on([backbone.change, guidance.change], self.offer_negative_prompt, **guided, **QUIET)

    def read(self, prompt: str, backbone: str) -> tuple[str, Any]:
        """Return the targets of a prompt while the visitor types, or why it has none; the button follows."""
        try:
            return f"Counted: **{target_list(self.jobs.read(prompt, backbone).targets)}**", gr.update(interactive=True)
        except (CountGenError, ValueError) as error:
            return sentence(error), gr.update(interactive=False)

    async def generate(self, request: gr.Request, *values: Any) -> AsyncIterator[Updates]:
        """Generate images with live previews; the last update is a judged result, also after Stop."""
        *given, session = values
        with errors_shown():
            form = GenerateForm(*given).checked(self.limits)
            self.jobs.read(form.prompt, form.backbone)
        job = Job(request.client.host, form.seconds * form.images, form.images)
        async for updates in self._working(job, session, self._generated(form, job, session)):
            yield updates

    def _generated(self, form: GenerateForm, job: Job, session: Session) -> Generator[Updates, None, None]:
        yield self._busy("Starting; loading a model for the first time takes a while …")
        made: list[Entry] = []
        for offset in range(form.images):
            title = f"Image {offset + 1} of {form.images} · " if form.images > 1 else ""
            run = self.jobs.run(form, offset)
            for step in steps_shown(run, job, SECONDS_BETWEEN_PREVIEWS):
                yield self._preview(run, step, form.seconds, title, session)
            if run.best is None:
                break
            token = run.options.token.name if run.options.token else ""
            own = replace(form, seed=form.seed + offset, images=1)
            made.append(entry_of(run, own, token=token, stopped=job.stopping))
            session.keep(made[-1], self.limits.max_images)
            if job.stopping:
                break
        session.undo.clear()
        if made:
            session.shown = next((entry for entry in made if entry.grade == "right"), made[0])
        updates = self.show(session)
        if len(made) > 1:
            right = sum(entry.grade == "right" for entry in made)
            updates[self.status] += f"<p class='hint'>{right} of {len(made)} images have a confirmed count.</p>"
        yield updates

    async def change_number(
        self, name: str, count: float, seconds: int, until: str, session: Session, request: gr.Request
    ) -> AsyncIterator[Updates]:
        """Edit the image on the page with live previews; the last update is the judged result, also after Stop."""
        entry = self._shown(session)
        with errors_shown():
            counts = {str(name): self.limits.check_count(count)}
            limit, end = self.limits.check_end(seconds, until)
        job = Job(request.client.host, limit)

        def edited() -> Generator[Updates, None, None]:
            yield self._busy("Starting …")
            run = self.jobs.edit(entry.recipe, counts, limit, end)
            for step in steps_shown(run, job, SECONDS_BETWEEN_PREVIEWS):
                yield self._preview(run, step, limit, "", session)
            if run.best is not None:
                made = entry_of(run, edited_form(entry.form, run), stopped=job.stopping)
                session.undo = [*session.undo, entry][-self.limits.max_images :]
                session.keep(made, self.limits.max_images)
            yield self.show(session)

        async for updates in self._working(job, session, edited()):
            yield updates

    async def open_file(self, content: bytes | None, session: Session, request: gr.Request) -> AsyncIterator[Updates]:
        """Show the image of an uploaded PNG, generated again from its recipe, and fill in its settings."""
        try:
            recipe = self.jobs.recipe(content or b"")
        except (CountGenError, ValueError) as error:
            yield {self.restored: None, self.status: status(sentence(error), "wrong")}
            return
        job = Job(request.client.host, self.limits.seconds[0])

        def opened() -> Generator[Updates, None, None]:
            yield self._busy("Opening …")
            session.shown = self.jobs.opened(recipe)
            session.undo.clear()
            filled = self.filled(replace(session.shown.form, seconds=self.limits.seconds[1]), session)
            yield self.show(session) | dict(zip(self.form, filled, strict=True)) | {self.restored: None}

        async for updates in self._working(job, session, opened()):
            yield updates

    async def _working(
        self, job: Job, session: Session, steps: Generator[Updates, None, None]
    ) -> AsyncIterator[Updates]:
        """Yield the updates of a job, and show the image before it again if it fails."""
        if session.job is not None:
            raise gr.Error("Your last job is not finished: stop it first.", print_exception=False)
        session.job = job
        try:
            async for item in self.jobs.worker.run(job, steps):
                yield self._busy(item) if isinstance(item, str) else item
            if job.stopping and job.began is None:  # it left the queue
                yield self.show(session)
        except Exception as error:
            yield self.show(session)
            if isinstance(error, LimitError):
                raise gr.Error(sentence(error), print_exception=False) from None
            raise
        finally:
            session.job = None

    def _busy(self, text: str) -> Updates:
        return {self.status: status(text), self.stop: gr.update(visible=True)}

    def _preview(self, run: Any, step: Any, seconds: float, title: str, session: Session) -> Updates:
        boxes = detect(run.models.critics[0], step.image, run.targets) if session.boxes else ()
        return {
            self.before: gr.update(visible=False),
            self.image: gr.update(value=boxed(step.image, boxes), label="Candidate"),
            self.status: live(run, step, seconds, title),
            self.facts: "",
        }

    def _shown(self, session: Session) -> Entry:
        return session.shown or self.jobs.example

    def show(self, session: Session) -> Updates:
        """Return the updates that show the visitor's current image and gallery."""
        entry = self._shown(session)
        before, image = entry.images(session.boxes)
        names = [target.object_name for target in entry.targets]
        gallery = [(one.file(private_folder()), one.title) for one in session.gallery]
        return {
            self.before: gr.update(value=before, label=entry.before_label, visible=before is not None),
            self.image: gr.update(value=image, label="Result"),
            self.status: entry.status,
            self.facts: entry.facts,
            self.python: entry.python,
            self.recipe: entry.recipe_text,
            self.download: entry.file(private_folder()),
            self.keep: gr.update(visible=entry.baseline is not None),
            self.undo: gr.update(visible=bool(session.undo)),
            self.stop: gr.update(visible=False),
            self.name: gr.update(choices=names, value=names[0]),
            self.count: entry.targets[0].target_count,
            self.gallery: gr.update(value=gallery, visible=bool(gallery), selected_index=None),
        }

    def select(self, session: Session, event: gr.EventData) -> Updates:
        """Show an image of the gallery again."""
        index = event._data.get("index") if isinstance(event._data, dict) else None
        if isinstance(index, int) and 0 <= index < len(session.gallery):
            session.shown = session.gallery[index]
            session.undo.clear()
        updates = self.show(session)
        del updates[self.gallery]
        return updates

    def undone(self, session: Session) -> Updates:
        """Show the image before the latest edit again."""
        if session.undo:
            session.shown = session.undo.pop()
        return self.show(session)

    def keep_baseline(self, session: Session) -> Updates:
        """Show the baseline of the current image in its place."""
        if (baseline := self._shown(session).baseline) is not None:
            session.keep(baseline, self.limits.max_images)
        return self.show(session)

    def with_boxes(self, boxes: bool, session: Session) -> Updates:
        """Show the current image with or without boxes."""
        session.boxes = boxes is True
        return self.show(session) if session.job is None else {self.before: gr.skip()}

    def count_of(self, name: str, session: Session) -> int:
        """Return the target count of an object of the current image."""
        targets = self._shown(session).targets
        return next((target.target_count for target in targets if target.object_name == name), 1)

    def filled(self, form: GenerateForm, session: Session) -> list[Any]:
        """Return the updates of the fields for a form."""
        values = {name: "" if value is None else value for name, value in vars(form).items()}
        values["token"] = gr.update(choices=self.token_choices(session), value=form.token)
        offered = self.offer_negative_prompt(form.backbone, form.guidance_scale, value=form.negative_prompt)
        values["negative_prompt"] = offered
        return list(values.values())

    def resumed(self, kept: str, session: Session) -> list[Any]:
        """Return the updates of the view and of the fields after a reload, from what the browser kept."""
        form = kept_form(kept, self.limits, self.jobs.tokens)
        # A field without news is left alone: the visitor may have changed it since.
        view = self.show(session).values() if session.shown else [gr.skip()] * len(self.view)
        return [*view, *(self.filled(form, session) if form else [gr.skip()] * len(self.form))]

    @staticmethod
    def token_choices(session: Session) -> list[tuple[str, str]]:
        """Return the choices of the token field, the visitor's own included."""
        own = [(name, sha256) for sha256, name in session.tokens.items()]
        return [("none: the number word", NO_TOKEN), ("shipped with countgen for this count", SHIPPED), *own]

    def offer_negative_prompt(self, backbone: str, scale: Any, **more: Any) -> Any:
        """Return the update that shows the field of the negative prompt to models with guidance."""
        try:
            return gr.update(visible=uses_guidance(backbone, self.limits.check_guidance(scale)), **more)
        except LimitError:
            return gr.update(visible=False, **more)


def whole_number(value: int, label: str, elem_id: str, low: int, high: int) -> Any:
    """Return a field for a whole number."""
    return gr.Number(value, label=label, precision=0, minimum=low, maximum=high, elem_id=elem_id)


def upload_button(label: str, ending: str, elem_id: str) -> Any:
    """Return a button for one file, whose content is passed on."""
    return gr.UploadButton(label, file_types=[ending], type="binary", size="sm", elem_id=elem_id)


def stop(session: Session) -> None:
    """Ask the visitor's job to end with the best image so far, or to leave the queue."""
    if session.job is not None:
        session.job.stop()


def explained(method: str) -> str:
    """Return a method's settings with meaning, range and default, as Markdown."""
    with errors_shown():
        loaded = methods.load(method)
    settings = describe(loaded.settings_class())
    lines = [f"- `{one.name}={one.default}`: {one.meaning}; {one.accepted}" for one in settings]
    return "\n".join([loaded.summary, "", *lines])
