"""The tab that learns count tokens, evaluates them, and accepts token files."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Generator, Sequence
from dataclasses import replace

import gradio as gr

import countgen
from countgen.app.demo import learn_view, result_view
from countgen.app.demo.generate_tab import GenerateTab
from countgen.app.demo.html import hint
from countgen.app.demo.image_html import detect
from countgen.app.demo.job_queue import AT_ONCE, MODELS, PRIVATE, QUIET
from countgen.app.demo.limits import Limits, RefusedError
from countgen.app.demo.model_cache import ModelCache
from countgen.app.demo.refusals import errors_shown, event_field
from countgen.app.demo.session import Session, UploadedTokens
from countgen.app.demo.uploads import FILE_JS, decoded_file, file_field
from countgen.miniature.world import OBJECT_NAMES
from countgen.models import Models
from countgen.number_slider import find_calibration
from countgen.number_slider.learning import direction_token
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
    validation_images=6,
    patience=1000,
)
"""Small batches, and one validation before the first step, because Stop and the time limit take effect between steps
only; the time limit ends the learning."""

TRIAL_SEEDS = (0, 1, 2, 3)
"""Seeds of the evaluation; learning and validation sample seeds far above these."""


class LearnTab:
    """The widgets of the tab and their event handlers."""

    def __init__(
        self, limits: Limits, model_cache: ModelCache, session: gr.State, generate_tab: GenerateTab, tabs: gr.Tabs
    ) -> None:
        self.limits, self.model_cache, self.generate_tab = limits, model_cache, generate_tab
        self.uploaded = UploadedTokens(limits.max_uploaded_bytes)
        with gr.Row(elem_classes="workbench"):
            with gr.Column(scale=4, min_width=280, elem_classes="controls"):
                names = gr.Dropdown(
                    list(OBJECT_NAMES),
                    value=["apple", "cat", "ball"],
                    multiselect=True,
                    max_choices=limits.max_object_names,
                    label="Objects to learn the token on",
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
                use = gr.Button("Use in Generate", elem_id="use-token")
                token_file = gr.HTML(
                    file_field("Use a token file", ".safetensors", "token-file"), elem_id="hand-in", js_on_load=FILE_JS
                )
                message = gr.HTML("", elem_id="handed-in")
            with gr.Column(scale=6, min_width=280):
                shown = gr.HTML(learn_view.EMPTY, elem_id="learning")
        begun = go.click(
            self.begin, inputs=[names, count, seconds, backbone, session], outputs=shown, **AT_ONCE, **PRIVATE
        )
        job = begun.success(
            self.learn,
            inputs=[names, count, seconds, backbone, session],
            outputs=[shown, generate_tab.token],
            **MODELS,
            show_progress="minimal",
            show_progress_on=message,
            api_name="learn",
        )
        begun.success(generate_tab.queue.watch, inputs=session, outputs=shown, **AT_ONCE, **PRIVATE)
        job.failure(leave_queue, inputs=session, outputs=shown, **QUIET)
        leave.click(leave_queue, inputs=session, outputs=shown, cancels=job, **QUIET)
        stop.click(Session.stop, inputs=session, **QUIET)
        token_file.upload(
            self.hand_in,
            inputs=session,
            outputs=[message, generate_tab.token],
            show_progress="hidden",
            api_name="hand_in_token",
            queue=False,
        )
        use.click(
            self.use,
            inputs=session,
            outputs=[tabs, generate_tab.token, generate_tab.prompt, generate_tab.method, generate_tab.backbone],
            **QUIET,
        )

    def check(self, names: object, count: object, seconds: object, backbone: object) -> tuple[tuple[str, ...], int]:
        """Return the checked object names and count."""
        checked = self.limits.check_object_names(names), self.limits.check_count(count)
        self.limits.check_learning_seconds(seconds)
        self.limits.check_backbone(backbone)
        return checked

    def begin(self, names: list[str], count: float, seconds: int, backbone: str, session: Session) -> str:
        """Refuse bad input before it enters the queue; from now on Stop has an effect."""
        with errors_shown():
            object_names, goal = self.check(names, count, seconds, backbone)
            for name in object_names:
                self.model_cache.check(backbone, (Target(name, goal),))
        session.begin()
        return result_view.queued()

    async def learn(
        self, names: list[str], count: float, seconds: int, backbone: str, session: Session
    ) -> AsyncIterator[tuple[object, object]]:
        """Learn one token with live previews; the last item is its evaluation on new seeds."""
        job = self._learned(names, count, seconds, backbone, session)
        async for shown in self.model_cache.run_in_worker(job, session):
            yield shown

    def _learned(
        self, names: list[str], count: float, seconds: int, backbone: str, session: Session
    ) -> Generator[tuple[object, object], None, None]:
        if session.busy and session.stopping:
            session.end()
            yield learn_view.EMPTY, gr.skip()
            return
        session.begin()
        try:
            with errors_shown():
                object_names, goal = self.check(names, count, seconds, backbone)
            yield result_view.starting(self.model_cache.is_loaded(backbone)), gr.skip()
            models = self.model_cache.get(backbone)
            calibration = find_calibration(models.backbone)
            if calibration is not None and calibration.replacement_for(goal) is not None:
                with errors_shown():
                    token = direction_token(models.backbone, goal, object_names, calibration)
                yield self._finished(models, token, object_names, session)
                return
            with errors_shown():
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
                    # A step does not say which object class its image shows; show the class with most detections.
                    detections = detect(models.critics[0], step.image, learning.targets)
                    best = sorted(detections, key=len)[-1:]
                    yield learn_view.live(step, best, goal, losses, counts), gr.skip()
                    shown = time.monotonic()
                if session.stopping or spent >= seconds:
                    break
            yield self._finished(models, learning.token, object_names, session, spent, losses, counts)
        finally:
            session.end()

    def _finished(
        self,
        models: Models,
        token: CountToken,
        object_names: Sequence[str],
        session: Session,
        spent: float = 0.0,
        losses: Sequence[float] = (),
        counts: Sequence[float] = (),
    ) -> tuple[object, object]:
        """Keep a token, and return its evaluation on new seeds and an update of the token field."""
        name = session.keep_token("learned", token, self.limits.max_tokens)
        # After Stop the evaluation is skipped, so that the worker is free at once.
        seeds = () if session.stopping else TRIAL_SEEDS
        trials = [evaluate_token(models, token, object_names[k % len(object_names)], s) for k, s in enumerate(seeds)]
        finished = learn_view.finished(name, token, trials, spent, losses, counts)
        return finished, self.generate_tab.token_choices(session, name)

    def hand_in(self, session: Session, event: gr.EventData) -> tuple[str, object]:
        """Accept a token file, which is sent as base64 and never written to the disk."""
        with errors_shown():
            data = event_field(event, "data")
            content = decoded_file(data, self.limits.max_token_bytes, "This file is not a count token")
            token = decoded(content, "This file")
            self.limits.check_count(token.target_count)
        name = session.keep_token("from a file", token, self.limits.max_tokens)
        self.uploaded.keep(session, name, len(content))
        return hint(f"Available in Generate: {name}."), self.generate_tab.token_choices(session, name)

    def use(self, session: Session) -> tuple[object, ...]:
        """Open the Generate tab with the newest token and a prompt for it."""
        with errors_shown():
            if not session.tokens:
                raise RefusedError("Learn a token first, or upload a token file.")
        name, token = list(session.tokens.items())[-1]
        prompt = prompt_for(token, token.object_names[0])
        backbone = token.base_model if token.base_model in self.limits.backbones else gr.skip()
        choices = self.generate_tab.token_choices(session, name)
        return gr.Tabs(selected="generate"), choices, prompt, "plain", backbone


def leave_queue(session: Session) -> str:
    """Return the empty view after a job was cancelled in the queue or failed."""
    session.end()
    return learn_view.EMPTY


def prompt_for(token: CountToken, object_name: str) -> str:
    """Return a prompt with the token's count as a number word."""
    return f"a photo of {number_word(token.target_count)} {counted(object_name, token.target_count)}"


def evaluate_token(models: Models, token: CountToken, object_name: str, seed: int) -> learn_view.Trial:
    """Generate one image with a token and the baseline without it, and count both with the judge."""
    targets = (Target(object_name, token.target_count),)
    prompt = prompt_for(token, object_name)
    run = countgen.Run(prompt, models, targets=targets, method="plain", token=token, seed=seed)
    for _ in run:
        pass
    result = run.result()
    baseline_count = int(models.required_judge.counts(result.before[None], [object_name])[0, 0])
    return learn_view.Trial(result.image, result.detections, object_name, result.judge_counts[0], baseline_count)
