"""The tab where people count, blind: no target, no method, no other count is shown."""

from __future__ import annotations

from html import escape

import gradio as gr

from app.demo.benchmark_view import judges_of
from app.demo.html import hint, table
from app.demo.limits import Limits, RefusedError, whole
from app.demo.refusals import told
from app.demo.result_view import jpeg_uri
from app.demo.run_folders import STUDY, RunFolders, picture_of
from app.demo.session import Labelling, Session
from benchmarks.evaluation.comparison import agreement
from benchmarks.evaluation.labels import MAX_COUNT, Question, questions, read_labels, save_label, unlabelled
from benchmarks.evaluation.metrics import with_labels
from countgen.prompts.plurals import plural

PICTURE_SIDE = 640
EMPTY = hint("Choose a run and give a name: you see its pictures in shuffled order and type how many you count.")
NOTHING = hint("There is no run to count in: start this page with countgen demo --runs FOLDER.")


class LabelTab:
    """Widgets of the tab, and the functions behind them."""

    def __init__(self, limits: Limits, folders: RunFolders, opened: gr.Tab, session: gr.State) -> None:
        self.limits, self.folders = limits, folders
        with gr.Row(elem_classes="workbench"):
            with gr.Column(scale=4, min_width=280, elem_classes="controls"):
                run = gr.Dropdown(self._names(), value=None, label="Run", elem_id="label-run")
                name = gr.Textbox(label="Your name", max_length=limits.max_name_length, elem_id="labeller")
                start = gr.Button("Start counting", variant="primary", elem_id="start-counting")
                compare = gr.Button("Compare with the judges", elem_id="compare")
                compared = gr.HTML("", elem_id="agreement")
            with gr.Column(scale=6, min_width=280):
                shown = gr.HTML(EMPTY, elem_id="question")
                answer = gr.Textbox(
                    label="Your count: type digits, Enter saves", max_length=5, elem_id="answer", visible=False
                )
        quiet = {"show_progress": "hidden"}
        listed = [run, shown, start, compare]
        opened.select(self.list_runs, inputs=run, outputs=listed, **quiet, api_visibility="private")
        gr.on(
            [start.click, name.submit],
            self.start,
            inputs=[run, name, session],
            outputs=[shown, answer],
            **quiet,
            api_name="start_labelling",
        )
        answer.submit(self.save, inputs=[answer, session], outputs=[shown, answer], **quiet, api_name="save_label")
        compare.click(self.compare, inputs=session, outputs=compared, **quiet, api_name="agreement")

    def list_runs(self, run: str | None) -> tuple[object, ...]:
        """The runs that can be labelled; the study comes with the program and takes no labels."""
        names = self._names()
        usable = gr.update(interactive=bool(names))
        if not names:
            return gr.skip(), NOTHING, usable, usable
        return gr.update(choices=names, value=run if run in names else names[0]), gr.skip(), usable, usable

    def _names(self) -> list[str]:
        return [name for name in self.folders.names() if name != STUDY]

    def start(self, run: str, name: str, session: Session) -> tuple[str, object]:
        """The first picture that this person has not labelled."""
        with told():
            if run == STUDY:
                raise RefusedError("The study that comes with countgen takes no labels; choose another run.")
            self.folders.folder(run)
            session.labelling = Labelling(run, self.limits.check_labeller(name))
        return self._next(session.labelling)

    def save(self, answer: str, session: Session) -> tuple[str, object]:
        """Keep a count; the next object of this picture, or the next picture."""
        labelling = session.labelling
        with told():
            if labelling is None or labelling.question is None:
                raise RefusedError("There is no picture to count; start with a run and a name.")
            number = whole(answer.strip() if isinstance(answer, str) else answer)
            if number is None or not 0 <= number <= MAX_COUNT:
                raise RefusedError("Type how many you count, in digits, for example 7.")
            folder = self.folders.folder(labelling.run)
        question, labelling.counts = labelling.question, (*labelling.counts, number)
        if len(labelling.counts) < len(question.object_names):
            return self._asked(labelling, question), gr.update(value="")
        save_label(folder, question.key, labelling.labeller, labelling.counts)
        return self._next(labelling)

    def compare(self, session: Session) -> str:
        """How far this person and each judge agree on the pictures labelled so far."""
        labelling = session.labelling
        with told():
            if labelling is None:
                raise RefusedError("Count some pictures first.")
            folder, records = self.folders.folder(labelling.run), self.folders.read(labelling.run)
        mine = [label for label in read_labels(folder) if label.labeller == labelling.labeller]
        if not mine:
            return hint("You have counted no picture of this run yet.")
        counted = {label.key for label in mine}
        labelled = [record for record in with_labels(records, mine) if record.key in counted]
        rows = []
        for judge in judges_of(records):
            found = agreement(labelled, judge, f"human {labelling.labeller}")
            kappa = "–" if found.kappa != found.kappa else f"{found.kappa:.2f}"
            rows.append((judge, f"{100 * found.equal:.0f} %", kappa))
        heads = ("Judge", "Equal counts", "Cohen's kappa")
        return table("Agreement", heads, rows, f"You and the judges on {len(mine)} pictures")

    def _next(self, labelling: Labelling) -> tuple[str, object]:
        folder = self.folders.folder(labelling.run)
        left = unlabelled(folder, labelling.labeller)
        labelling.counts, labelling.question = (), left[0] if left else None
        if labelling.question is None:
            return "<p class='verdict right' role='status'>You have counted every picture. Thank you!</p>", gr.update(
                visible=False, value=""
            )
        labelling.done, labelling.total = len(questions(folder)) - len(left), len(questions(folder))
        return self._asked(labelling, labelling.question), gr.update(visible=True, value="")

    def _asked(self, labelling: Labelling, question: Question) -> str:
        folder = self.folders.folder(labelling.run)
        picture = picture_of(folder, str(question.image.relative_to(folder)))
        image = f"<img src='{jpeg_uri(picture, PICTURE_SIDE)}' alt='Picture to count in'>" if picture else ""
        what = plural(question.object_names[len(labelling.counts)])
        return (
            f"<section class='stage'><p class='question' role='status'>How many <b>{escape(what)}</b> do you count?</p>"
            f"<div class='canvas'>{image or '<p>This picture is missing.</p>'}</div>"
            f"<progress max='{labelling.total}' value='{labelling.done}' aria-label='Pictures counted'></progress>"
            + hint(f"{labelling.done} of {labelling.total} counted")
            + "</section>"
        )
