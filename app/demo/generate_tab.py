"""The tab where pictures are drawn."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator

import gradio as gr

import countgen
from app.demo import result_view
from app.demo.html import asked, chips, sentence
from app.demo.limits import Limits, RefusedError
from app.demo.model_cache import ModelCache
from app.demo.refusals import sent, told
from app.demo.session import Picture, Session
from countgen.errors import PromptError
from countgen.prompts import Target
from countgen.tokens.file import CountToken
from countgen.tokens.library import available_tokens

EXAMPLES = ("seven apples", "nine butterflies in the snow", "five cats and three dogs", "ten strawberries on a table")
AT_ONCE = {"concurrency_limit": None}
"""Waits for no other job. Not `queue=False`: what such a function refuses is not shown on the page."""

_METHOD_NAMES = {"lmn": "LMN"}
TOKENS = (("none", "none"), ("the shipped one of this count", "shipped"))
_PICK = (
    "element.addEventListener('click', event => { const button = event.target.closest('button[data-index]');"
    "if (button) trigger('select', {index: Number(button.dataset.index)}); });"
)


class GenerateTab:
    """Widgets of the tab, and the functions behind them."""

    def __init__(self, limits: Limits, model_cache: ModelCache, session: gr.State) -> None:
        self.limits, self.model_cache = limits, model_cache
        self._lay_out(session)

    def _lay_out(self, session: gr.State) -> None:
        limits = self.limits
        with gr.Row(elem_classes="workbench"):
            with gr.Column(scale=4, min_width=300, elem_classes="controls"):
                self.prompt = gr.Textbox(
                    label="What to draw",
                    value="a photo of seven apples",
                    placeholder="a photo of seven apples",
                    max_length=limits.max_prompt_length,
                    lines=1,  # with more, Enter would begin a line instead of drawing
                    max_lines=4,
                    submit_btn=False,
                    elem_id="prompt",
                    autofocus=True,
                )
                parsed = gr.HTML(self.read(self.prompt.value, limits.backbones[0]), elem_id="parsed")
                with gr.Row(elem_classes="buttons"):
                    go = gr.Button("Generate", variant="primary", elem_id="go", scale=3)
                    stop = gr.Button("Stop", variant="stop", elem_id="stop", scale=2)
                    leave = gr.Button("Leave the queue", elem_id="leave", scale=2)
                with gr.Row(elem_classes="examples"):
                    examples = [gr.Button(text, size="sm", min_width=60) for text in EXAMPLES]
                self.method = method = gr.Radio(
                    [(_METHOD_NAMES.get(name, name.capitalize()), name) for name in limits.methods],
                    value=limits.methods[0],
                    label="Method",
                    elem_id="method",
                )
                with gr.Row():
                    seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**32 - 1, min_width=120)
                    seconds = gr.Dropdown(
                        [(f"{s} seconds", s) for s in limits.seconds],
                        value=limits.seconds[1],
                        label="Time limit",
                        min_width=120,
                        elem_id="seconds",
                    )
                with gr.Row():
                    backbone = gr.Dropdown(
                        list(limits.backbones), value=limits.backbones[0], label="Model", min_width=120
                    )
                    self.token = gr.Dropdown(
                        list(TOKENS), value="none", label="Count token", min_width=120, elem_id="token"
                    )
                self.backbone = backbone
            with gr.Column(scale=6, min_width=300):
                shown = gr.HTML(result_view.EMPTY, elem_id="stage")
        pictures = gr.HTML("", elem_id="pictures", js_on_load=_PICK)

        reading = {"fn": self.read, "inputs": [self.prompt, backbone], "outputs": parsed, "queue": False}
        gr.on(
            [self.prompt.input, self.prompt.change],
            **reading,
            show_progress="hidden",
            trigger_mode="always_last",
            api_name="parse",
        )
        asking = [self.prompt, backbone, method, self.token, seed, seconds, session]
        drawing = {
            "fn": self.generate,
            "inputs": asking,
            "outputs": [shown, pictures],
            "concurrency_id": "models",
            "concurrency_limit": 1,
            "show_progress": "minimal",
            "show_progress_on": parsed,
        }
        private = {"show_progress": "hidden", "api_visibility": "private"}
        quiet = {**private, "queue": False}
        asked = [self.prompt, backbone, session]
        preparing = {"fn": self.begin, "inputs": asked, "outputs": shown, **AT_ONCE, **private}
        leaving = {"fn": leave_queue, "inputs": session, "outputs": shown, **quiet}
        jobs = [gr.on([go.click, self.prompt.submit], **preparing).success(**drawing, api_name="generate")]
        for button in examples:
            filled = button.click(lambda text: text, inputs=button, outputs=self.prompt, **quiet)
            jobs.append(filled.then(**preparing).success(**drawing, api_visibility="private"))
        for job in jobs:
            job.failure(**leaving)
        leave.click(**leaving, cancels=jobs)
        stop.click(Session.stop, inputs=session, queue=False, show_progress="hidden", api_name="stop")
        pictures.select(self.show_again, inputs=session, outputs=shown, **quiet)

    def read(self, prompt: str, backbone: str) -> str:
        """What the prompt asks for, as the visitor types; says what to do where it cannot be read."""
        try:
            text = self.limits.check_prompt(prompt)
            targets = countgen.parse(text, self.model_cache.object_names(self.limits.check_backbone(backbone)))
            self.model_cache.check(backbone, self.limits.check_targets(targets))
            return chips(targets)
        except (PromptError, ValueError) as error:
            return f"<p class='hint'>{sentence(error)}</p>"

    def begin(self, prompt: str, backbone: str, session: Session) -> str:
        """Refuse what cannot be drawn before it waits in the queue, and listen to Stop from now on."""
        with told():
            text = self.limits.check_prompt(prompt)
            names = self.model_cache.object_names(self.limits.check_backbone(backbone))
            self.model_cache.check(backbone, self.limits.check_targets(countgen.parse(text, names)))
        session.begin()
        return result_view.QUEUED

    def generate(
        self, prompt: str, backbone: str, method: str, token: str, seed: float, seconds: int, session: Session
    ) -> Iterator[tuple[str, str]]:
        """Draw one picture and show it growing; ends with the judged result, also where the visitor stops it."""
        yield from self.model_cache.alone(self._drawn(prompt, backbone, method, token, seed, seconds, session))

    def _drawn(
        self, prompt: str, backbone: str, method: str, token: str, seed: float, seconds: int, session: Session
    ) -> Generator[tuple[str, str], None, None]:
        stopped = session.busy and session.stopping
        if stopped:
            session.end()
            yield result_view.EMPTY, result_view.gallery(session.pictures)
            return
        session.begin()
        try:
            limits = self.limits
            with told():
                text, name = limits.check_prompt(prompt), limits.check_backbone(backbone)
            yield result_view.WAITING, result_view.gallery(session.pictures)
            models = self.model_cache.get(name)
            with told():
                targets = limits.check_targets(countgen.parse(text, models.critics[0].object_names))
                run = countgen.Run(
                    text,
                    models,
                    targets=targets,
                    token=chosen_token(token, targets, name, session),
                    method=limits.check_method(method),
                    seed=limits.check_seed(seed),
                    max_seconds=limits.check_seconds(seconds),
                )
            looks: list[result_view.Look] = []
            shown = -math.inf
            for step in run:
                if math.isfinite(step.loss):
                    looks.append(result_view.Look(step.counts, step.loss))
                if session.stopping:
                    break
                if looks and time.monotonic() - shown > result_view.SECONDS_BETWEEN_PREVIEWS:
                    boxes = result_view.counted_boxes(models.critics[0], step.image, run.targets)
                    note = f"{_DOING[step.phase]} · {step.evaluations} evaluations · {step.seconds:.1f} s"
                    yield (
                        result_view.live(step.image, boxes, run.targets, looks, note),
                        result_view.gallery(session.pictures),
                    )
                    shown = time.monotonic()
            result = run.result()
            finished = result_view.finished(result, models.judge, looks, session.stopping)
            thumbnail = result_view.jpeg_uri(result.image, result_view.THUMBNAIL_SIDE)
            session.pictures.insert(0, Picture(asked(result.targets), result.verified, thumbnail, finished))
            del session.pictures[limits.max_pictures :]
            yield finished, result_view.gallery(session.pictures)
        finally:
            session.end()

    def token_choices(self, session: Session, chosen: str) -> object:
        """The tokens this visitor may use, one of them chosen."""
        return gr.update(choices=[*TOKENS, *((name, name) for name in session.tokens)], value=chosen)

    def show_again(self, session: Session, event: gr.EventData) -> str:
        """A picture of the gallery, back on the stage."""
        index = sent(event, "index")
        if not isinstance(index, int) or not 0 <= index < len(session.pictures):
            return result_view.EMPTY
        return session.pictures[index].stage


def leave_queue(session: Session) -> str:
    """The stage of a visitor whose job never begins, or failed."""
    session.end()
    return result_view.EMPTY


def chosen_token(choice: str, targets: tuple[Target, ...], backbone: str, session: Session) -> CountToken | None:
    """The visitor's own token, the shipped one of the count asked for, or none.

    Raises:
        RefusedError: no such token.
    """
    if choice == "none":
        return None
    if choice in session.tokens:
        return session.tokens[choice]
    if choice != "shipped":
        raise RefusedError("There is no such token here; choose one of the list.")
    if len(targets) > 1:
        raise RefusedError("A shipped token says the number of one kind of object, and this prompt asks for two kinds.")
    shipped = available_tokens(backbone)
    name = f"count-{targets[0].target_count}"
    if name not in shipped:
        raise RefusedError(
            f"No token of this count is shipped for {backbone}; there are: {', '.join(shipped) or 'none'}."
        )
    return shipped[name]


_DOING = {"search": "Drawing seeds", "refine": "Refining the nearest by gradient"}
