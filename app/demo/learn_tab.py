"""The tab where count tokens are learned, tried and handed over."""

from __future__ import annotations

import base64
import binascii
import math
import time
from collections.abc import Generator, Iterator
from dataclasses import replace

import gradio as gr

import countgen
from app.demo import learn_view, result_view
from app.demo.generate_tab import AT_ONCE, GenerateTab
from app.demo.html import hint
from app.demo.limits import Limits, RefusedError
from app.demo.model_cache import ModelCache
from app.demo.refusals import sent, told
from app.demo.session import HandedIn, Session
from countgen.miniature.world import OBJECT_NAMES
from countgen.models import Models
from countgen.prompts import Target
from countgen.prompts.number_words import number_word
from countgen.prompts.plurals import counted
from countgen.tokens.file import CountToken, decoded
from countgen.tokens.trainer import LearnSettings, detecting, learn_token

SETTINGS = LearnSettings(
    teacher=None,
    initial_step=0,
    objects_per_step=2,
    num_optimization_steps=1000,
    validate_every=5,
    validation_pictures=6,
    patience=1000,
)
"""Small batches, and nothing but one validation before them: Stop and the time limit, which ends it, are heard only
between steps."""

TRIAL_SEEDS = (0, 1, 2, 3)
"""Learning and its validation draw theirs far above."""

_HAND_IN = (
    "element.addEventListener('change', event => { const file = event.target.files[0]; if (!file) return;"
    "const reader = new FileReader();"
    "reader.onload = () => trigger('upload', {data: reader.result.slice(reader.result.indexOf(',') + 1)});"
    "reader.readAsDataURL(file); event.target.value = ''; });"
)
_FILE = "<label class='file'>Use a token file <input type='file' accept='.safetensors' id='token-file'></label>"


class LearnTab:
    """Widgets of the tab, and the functions behind them."""

    def __init__(
        self, limits: Limits, model_cache: ModelCache, session: gr.State, drawing: GenerateTab, tabs: gr.Tabs
    ) -> None:
        self.limits, self.model_cache, self.drawing = limits, model_cache, drawing
        self.handed_in = HandedIn(limits.max_handed_bytes)
        with gr.Row(elem_classes="workbench"):
            with gr.Column(scale=4, min_width=280, elem_classes="controls"):
                names = gr.Dropdown(
                    list(OBJECT_NAMES),
                    value=["apple", "cat", "ball"],
                    multiselect=True,
                    max_choices=limits.max_object_names,
                    label="Objects to learn it on",
                    elem_id="objects",
                    allow_custom_value=True,
                )
                with gr.Row():
                    count = gr.Number(
                        5,
                        label="Count",
                        precision=0,
                        minimum=1,
                        maximum=limits.max_count,
                        min_width=100,
                        elem_id="count",
                    )
                    seconds = gr.Dropdown(
                        [(f"{s} seconds", s) for s in limits.learning_seconds],
                        value=limits.learning_seconds[1],
                        label="Time limit",
                        min_width=120,
                        elem_id="learning-seconds",
                    )
                backbone = gr.Dropdown(list(limits.backbones), value=limits.backbones[0], label="Model")
                with gr.Row(elem_classes="buttons"):
                    go = gr.Button("Learn", variant="primary", elem_id="learn", scale=3)
                    stop = gr.Button("Stop", variant="stop", elem_id="stop-learning", scale=2)
                    leave = gr.Button("Leave the queue", elem_id="leave-learning", scale=2)
                use = gr.Button("Use it in Generate", elem_id="use-token")
                handed = gr.HTML(_FILE, elem_id="hand-in", js_on_load=_HAND_IN)
                said = gr.HTML("", elem_id="handed-in")
            with gr.Column(scale=6, min_width=280):
                shown = gr.HTML(learn_view.EMPTY, elem_id="learning")
        quiet = {"show_progress": "hidden"}
        private = {**quiet, "api_visibility": "private"}
        begun = go.click(
            self.begin, inputs=[names, count, seconds, backbone, session], outputs=shown, **AT_ONCE, **private
        )
        job = begun.success(
            self.learn,
            inputs=[names, count, seconds, backbone, session],
            outputs=[shown, drawing.token],
            concurrency_id="models",
            concurrency_limit=1,
            show_progress="minimal",
            show_progress_on=said,
            api_name="learn",
        )
        job.failure(leave_queue, inputs=session, outputs=shown, queue=False, **private)
        leave.click(leave_queue, inputs=session, outputs=shown, cancels=job, queue=False, **private)
        stop.click(Session.stop, inputs=session, queue=False, **private)
        handed.upload(
            self.hand_in, inputs=session, outputs=[said, drawing.token], **quiet, api_name="hand_in_token", queue=False
        )
        use.click(
            self.use,
            inputs=session,
            outputs=[tabs, drawing.token, drawing.prompt, drawing.method, drawing.backbone],
            queue=False,
            **private,
        )

    def check(self, names: object, count: object, seconds: object, backbone: object) -> tuple[tuple[str, ...], int]:
        """What can be learned here, refused before it waits in the queue."""
        checked = self.limits.check_object_names(names), self.limits.check_count(count)
        self.limits.check_learning_seconds(seconds)
        self.limits.check_backbone(backbone)
        return checked

    def begin(self, names: list[str], count: float, seconds: int, backbone: str, session: Session) -> str:
        """Refuse what cannot be learned before it waits in the queue, and listen to Stop from now on."""
        with told():
            object_names, goal = self.check(names, count, seconds, backbone)
            for name in object_names:
                self.model_cache.check(backbone, (Target(name, goal),))
        session.begin()
        return result_view.QUEUED

    def learn(
        self, names: list[str], count: float, seconds: int, backbone: str, session: Session
    ) -> Iterator[tuple[object, object]]:
        """Learn one token and show it growing; ends with what it does on new seeds."""
        yield from self.model_cache.alone(self._learned(names, count, seconds, backbone, session))

    def _learned(
        self, names: list[str], count: float, seconds: int, backbone: str, session: Session
    ) -> Generator[tuple[object, object], None, None]:
        if session.busy and session.stopping:
            session.end()
            yield learn_view.EMPTY, gr.skip()
            return
        session.begin()
        try:
            with told():
                object_names, goal = self.check(names, count, seconds, backbone)
            yield result_view.WAITING, gr.skip()
            models = self.model_cache.get(backbone)
            with told():
                settings = SETTINGS if detecting(models) else replace(SETTINGS, semantic_weight=0)
                learning = learn_token(models, goal, object_names, settings)
            losses: list[float] = []
            counts: list[float] = []
            begun, shown, spent = time.monotonic(), -math.inf, 0.0
            for step in learning:
                losses.append(step.loss)
                counts.append(step.soft_counts[0])
                spent = time.monotonic() - begun
                if time.monotonic() - shown > result_view.SECONDS_BETWEEN_PREVIEWS:
                    # A step does not say which of the objects its picture shows: the one that is found.
                    found = result_view.counted_boxes(models.critics[0], step.image, learning.targets)
                    yield learn_view.learning(step, [max(found, key=len)], goal, losses, counts), gr.skip()
                    shown = time.monotonic()
                if session.stopping or spent >= seconds:
                    break
            token = learning.token
            name = session.keep_token("learned", token, self.limits.max_tokens)
            # Whoever stops it has waited long enough: the worker is free at once.
            seeds = () if session.stopping else TRIAL_SEEDS
            trials = [trial(models, token, object_names[k % len(object_names)], s) for k, s in enumerate(seeds)]
            finished = learn_view.learned(name, token, trials, spent, losses, counts)
            yield finished, self.drawing.token_choices(session, name)
        finally:
            session.end()

    def hand_in(self, session: Session, event: gr.EventData) -> tuple[str, object]:
        """Take a token file, which arrives as base64 and never touches the disk."""
        with told():
            content = self._bytes(sent(event, "data"))
            token = decoded(content, "This file")
            self.limits.check_count(token.target_count)
        name = session.keep_token("from a file", token, self.limits.max_tokens)
        self.handed_in.keep(session, name, len(content))
        return hint(f"Ready in Generate: {name}."), self.drawing.token_choices(session, name)

    def _bytes(self, data: object) -> bytes:
        limit = self.limits.max_token_bytes
        if not isinstance(data, str):
            raise RefusedError("This is no count token.")
        if len(data) > 4 * (limit // 3 + 2):
            raise RefusedError(f"This is no count token: its file has more than {limit // 1024} KiB.")
        try:
            return base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError) as error:
            raise RefusedError("This is no count token.") from error

    def use(self, session: Session) -> tuple[object, ...]:
        """Go to Generate with the newest token and a prompt that fits it."""
        with told():
            if not session.tokens:
                raise RefusedError("Learn a token first, or hand in a file.")
        name, token = list(session.tokens.items())[-1]
        prompt = prompt_for(token, token.object_names[0])
        backbone = token.base_model if token.base_model in self.limits.backbones else gr.skip()
        choices = self.drawing.token_choices(session, name)
        return gr.Tabs(selected="generate"), choices, prompt, "plain", backbone


def leave_queue(session: Session) -> str:
    """The stage of a visitor whose job never begins, or failed."""
    session.end()
    return learn_view.EMPTY


def prompt_for(token: CountToken, object_name: str) -> str:
    """A prompt in which a token's number stands as a word."""
    return f"a photo of {number_word(token.target_count)} {counted(object_name, token.target_count)}"


def trial(models: Models, token: CountToken, object_name: str, seed: int) -> learn_view.Trial:
    """Draw one picture with a token and one with the number word alone, and ask the judge about both."""
    targets = (Target(object_name, token.target_count),)
    prompt = prompt_for(token, object_name)
    run = countgen.Run(prompt, models, targets=targets, method="token", token=token, seed=seed)
    for _ in run:
        pass
    result = run.result()
    boxes = result_view.counted_boxes(models.judge, result.image, targets)
    found_before = int(models.judge.counts(result.before[None], [object_name])[0, 0])
    return learn_view.Trial(result.image, boxes, object_name, result.judge_counts[0], found_before)
