"""The tab that generates images."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator

import gradio as gr

import countgen
from app.demo import result_view
from app.demo.html import chips, sentence, target_list
from app.demo.limits import Limits, RefusedError
from app.demo.model_cache import ModelCache
from app.demo.refusals import errors_shown, event_field
from app.demo.session import GalleryEntry, Session
from countgen.errors import PromptError
from countgen.prompts import Target
from countgen.tokens.file import CountToken
from countgen.tokens.library import available_tokens

EXAMPLES = ("seven apples", "nine butterflies in the snow", "five cats and three dogs", "ten strawberries on a table")
AT_ONCE = {"concurrency_limit": None}
"""Run at once, beside other jobs; with `queue=False` the page would not show the function's error messages."""

_METHOD_NAMES = {"lmn": "LMN"}
TOKENS = (("none", "none"), ("shipped with countgen", "shipped"))
_PICK = (
    "element.addEventListener('click', event => { const button = event.target.closest('button[data-index]');"
    "if (button) trigger('select', {index: Number(button.dataset.index)}); });"
)


class GenerateTab:
    """The widgets of the tab and their event handlers."""

    def __init__(self, limits: Limits, model_cache: ModelCache, session: gr.State) -> None:
        self.limits, self.model_cache = limits, model_cache
        self._lay_out(session)

    def _lay_out(self, session: gr.State) -> None:
        limits = self.limits
        with gr.Row(elem_classes="workbench"):
            with gr.Column(scale=4, min_width=300, elem_classes="controls"):
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
                parsed = gr.HTML(self.parse(self.prompt.value, limits.backbones[0]), elem_id="parsed")
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
        gallery = gr.HTML("", elem_id="pictures", js_on_load=_PICK)

        parsing = {"fn": self.parse, "inputs": [self.prompt, backbone], "outputs": parsed, "queue": False}
        gr.on(
            [self.prompt.input, self.prompt.change],
            **parsing,
            show_progress="hidden",
            trigger_mode="always_last",
            api_name="parse",
        )
        inputs = [self.prompt, backbone, method, self.token, seed, seconds, session]
        generating = {
            "fn": self.generate,
            "inputs": inputs,
            "outputs": [shown, gallery],
            "concurrency_id": "models",
            "concurrency_limit": 1,
            "show_progress": "minimal",
            "show_progress_on": parsed,
        }
        private = {"show_progress": "hidden", "api_visibility": "private"}
        quiet = {**private, "queue": False}
        preparing = {
            "fn": self.begin,
            "inputs": [self.prompt, backbone, session],
            "outputs": shown,
            **AT_ONCE,
            **private,
        }
        leaving = {"fn": leave_queue, "inputs": session, "outputs": shown, **quiet}
        jobs = [gr.on([go.click, self.prompt.submit], **preparing).success(**generating, api_name="generate")]
        for button in examples:
            filled = button.click(lambda text: text, inputs=button, outputs=self.prompt, **quiet)
            jobs.append(filled.then(**preparing).success(**generating, api_visibility="private"))
        for job in jobs:
            job.failure(**leaving)
        leave.click(**leaving, cancels=jobs)
        stop.click(Session.stop, inputs=session, queue=False, show_progress="hidden", api_name="stop")
        gallery.select(self.show_again, inputs=session, outputs=shown, **quiet)

    def parse(self, prompt: str, backbone: str) -> str:
        """Return the targets of a prompt while the visitor types, or why it is refused."""
        try:
            return chips(self._targets(prompt, backbone))
        except (PromptError, ValueError) as error:
            return f"<p class='hint'>{sentence(error)}</p>"

    def begin(self, prompt: str, backbone: str, session: Session) -> str:
        """Refuse bad prompts before they enter the queue; from now on Stop has an effect."""
        with errors_shown():
            self._targets(prompt, backbone)
        session.begin()
        return result_view.QUEUED

    def _targets(self, prompt: str, backbone: str) -> tuple[Target, ...]:
        text = self.limits.check_prompt(prompt)
        names = self.model_cache.object_names(self.limits.check_backbone(backbone))
        targets = self.limits.check_targets(countgen.parse(text, names))
        self.model_cache.check(backbone, targets)
        return targets

    def generate(
        self, prompt: str, backbone: str, method: str, token: str, seed: float, seconds: int, session: Session
    ) -> Iterator[tuple[str, str]]:
        """Generate one image with live previews; the last item is the judged result, also after Stop."""
        yield from self.model_cache.run_in_worker(
            self._generated(prompt, backbone, method, token, seed, seconds, session)
        )

    def _generated(
        self, prompt: str, backbone: str, method: str, token: str, seed: float, seconds: int, session: Session
    ) -> Generator[tuple[str, str], None, None]:
        stopped = session.busy and session.stopping
        if stopped:
            session.end()
            yield result_view.EMPTY, result_view.gallery(session.gallery)
            return
        session.begin()
        try:
            limits = self.limits
            with errors_shown():
                text, name = limits.check_prompt(prompt), limits.check_backbone(backbone)
            yield result_view.LOADING, result_view.gallery(session.gallery)
            models = self.model_cache.get(name)
            with errors_shown():
                targets = self._targets(text, name)
                run = countgen.Run(
                    text,
                    models,
                    targets=targets,
                    token=find_token(token, targets, name, session),
                    method=limits.check_method(method),
                    seed=limits.check_seed(seed),
                    max_seconds=limits.check_seconds(seconds),
                )
            history: list[result_view.HistoryEntry] = []
            shown = -math.inf
            for step in run:
                if math.isfinite(step.loss):
                    history.append(result_view.HistoryEntry(step.counts, step.loss))
                if session.stopping:
                    break
                if history and time.monotonic() - shown > result_view.SECONDS_BETWEEN_PREVIEWS:
                    detections = result_view.detect(models.critics[0], step.image, run.targets)
                    note = f"{_PHASES[step.phase]} · {step.evaluations} evaluations · {step.seconds:.1f} s"
                    yield (
                        result_view.live(step.image, detections, run.targets, history, note),
                        result_view.gallery(session.gallery),
                    )
                    shown = time.monotonic()
            result = run.result()
            finished = result_view.finished(result, history, session.stopping)
            thumbnail = result_view.jpeg_uri(result.image, result_view.THUMBNAIL_SIDE)
            session.gallery.insert(0, GalleryEntry(target_list(result.targets), result.verified, thumbnail, finished))
            del session.gallery[limits.max_images :]
            yield finished, result_view.gallery(session.gallery)
        finally:
            session.end()

    def token_choices(self, session: Session, chosen: str) -> object:
        """Return an update of the token field: the tokens of this visitor, one of them selected."""
        return gr.update(choices=[*TOKENS, *((name, name) for name in session.tokens)], value=chosen)

    def show_again(self, session: Session, event: gr.EventData) -> str:
        """Return the result view of a gallery entry."""
        index = event_field(event, "index")
        if not isinstance(index, int) or not 0 <= index < len(session.gallery):
            return result_view.EMPTY
        return session.gallery[index].result


def leave_queue(session: Session) -> str:
    """Return the empty view after a job was cancelled in the queue or failed."""
    session.end()
    return result_view.EMPTY


def find_token(choice: str, targets: tuple[Target, ...], backbone: str, session: Session) -> CountToken | None:
    """Return the visitor's own token, the shipped token for the target count, or None.

    Raises:
        RefusedError: the token does not exist, or the prompt has several targets.
    """
    if choice == "none":
        return None
    if choice in session.tokens:
        return session.tokens[choice]
    if choice != "shipped":
        raise RefusedError("Unknown token; choose one from the list.")
    if len(targets) > 1:
        raise RefusedError("A shipped token stands for the count of one object class, and this prompt has several.")
    shipped = available_tokens(backbone)
    name = f"count-{targets[0].target_count}"
    if name not in shipped:
        raise RefusedError(
            f"No token for this count is shipped for {backbone}; shipped are: {', '.join(shipped) or 'none'}."
        )
    return shipped[name]


_PHASES = {
    "search": "Searching seeds",
    "refine": "Refining the latents by gradient",
    "edit": "Editing near undecided objects",
    "edit, low frequencies too": "Editing, low frequencies too",
    "edit, mask widened": "Editing, mask widened",
}
