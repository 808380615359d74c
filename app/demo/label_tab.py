"""The tab where people label images; targets, methods and other counts are hidden from them."""

from __future__ import annotations

from html import escape

import gradio as gr

from countgen.app.demo.benchmark_view import judges_of
from countgen.app.demo.html import hint, table
from countgen.app.demo.image_html import jpeg_uri
from countgen.app.demo.limits import Limits, RefusedError, whole_number
from countgen.app.demo.refusals import errors_shown
from countgen.app.demo.run_folders import STUDY, RunFolders, read_image
from countgen.app.demo.session import Labelling, Session
from countgen.benchmarks.evaluation.comparison import agreement
from countgen.benchmarks.evaluation.label_sheet import UNCOUNTABLE
from countgen.benchmarks.evaluation.labels import MAX_COUNT, Question, questions, read_labels, save_label, unlabelled
from countgen.benchmarks.evaluation.metrics import with_labels
from countgen.prompts.plurals import plural

IMAGE_SIDE = 640
EMPTY = hint("Choose a run and enter your name. Its images appear in shuffled order; type how many objects you count.")
NOTHING = hint("There is no run to label: start the demo with countgen demo --runs FOLDER.")


class LabelTab:
    """The widgets of the tab and their event handlers."""

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
                answer = gr.Textbox(label="Your count (Enter saves)", max_length=5, elem_id="answer", visible=False)
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
        """List the runs that can be labelled; the study that ships with countgen accepts no labels."""
        names = self._names()
        usable = gr.update(interactive=bool(names))
        if not names:
            return gr.skip(), NOTHING, usable, usable
        return gr.update(choices=names, value=run if run in names else names[0]), gr.skip(), usable, usable

    def _names(self) -> list[str]:
        return [name for name in self.folders.names() if name != STUDY]

    def start(self, run: str, name: str, session: Session) -> tuple[str, object]:
        """Return the first image that this person has not labelled."""
        with errors_shown():
            if run == STUDY:
                raise RefusedError("The study that ships with countgen accepts no labels; choose another run.")
            self.folders.folder(run)
            session.labelling = Labelling(run, self.limits.check_labeller(name))
        return self._next(session.labelling)

    def save(self, answer: str, session: Session) -> tuple[str, object]:
        """Save a count and return the next object class of this image, or the next image."""
        labelling = session.labelling
        with errors_shown():
            if labelling is None or labelling.question is None:
                raise RefusedError("There is no image to label; choose a run and enter a name first.")
            typed = answer.strip() if isinstance(answer, str) else answer
            number = whole_number(typed)
            if typed != UNCOUNTABLE and (number is None or not 0 <= number <= MAX_COUNT):
                raise RefusedError(f"Type the number in digits, such as 7, or {UNCOUNTABLE} where you cannot decide.")
            folder = self.folders.folder(labelling.run)
        question, labelling.counts = labelling.question, (*labelling.counts, number)
        if len(labelling.counts) < len(question.object_names):
            return self._question(labelling, question), gr.update(value="")
        save_label(folder, question.key, labelling.labeller, labelling.counts)
        return self._next(labelling)

    def compare(self, session: Session) -> str:
        """Return the agreement between this person and each judge on the images labelled so far."""
        labelling = session.labelling
        with errors_shown():
            if labelling is None:
                raise RefusedError("Label some images first.")
            folder, records = self.folders.folder(labelling.run), self.folders.read(labelling.run)
        mine = [label for label in read_labels(folder) if label.labeller == labelling.labeller]
        if not mine:
            return hint("You have labelled no image of this run yet.")
        keys = {label.key for label in mine}
        labelled = [record for record in with_labels(records, mine) if record.key in keys]
        rows = []
        for judge in judges_of(records):
            found = agreement(labelled, judge, f"human {labelling.labeller}")
            kappa = "–" if found.kappa != found.kappa else f"{found.kappa:.2f}"
            equal = f"{100 * found.equal:.0f} %" if found.counts else "–"
            rows.append((judge, equal, kappa))
        heads = ("Judge", "Equal counts", "Cohen's kappa")
        return table("Agreement", heads, rows, f"You and the judges on {len(mine)} images")

    def _next(self, labelling: Labelling) -> tuple[str, object]:
        folder = self.folders.folder(labelling.run)
        left = unlabelled(folder, labelling.labeller)
        labelling.counts, labelling.question = (), left[0] if left else None
        if labelling.question is None:
            return "<p class='verdict right' role='status'>You have labelled every image. Thank you!</p>", gr.update(
                visible=False, value=""
            )
        labelling.done, labelling.total = len(questions(folder)) - len(left), len(questions(folder))
        return self._question(labelling, labelling.question), gr.update(visible=True, value="")

    def _question(self, labelling: Labelling, question: Question) -> str:
        folder = self.folders.folder(labelling.run)
        image = read_image(folder, str(question.image.relative_to(folder)))
        shown = f"<img src='{jpeg_uri(image, IMAGE_SIDE)}' alt='Image to label'>" if image else ""
        what = plural(question.object_names[len(labelling.counts)])
        return (
            f"<section class='stage'><p class='question' role='status'>How many <b>{escape(what)}</b> do you count?</p>"
            f"<div class='canvas'>{shown or '<p>This image is missing.</p>'}</div>"
            f"<progress max='{labelling.total}' value='{labelling.done}' aria-label='Labelled images'></progress>"
            + hint(f"{labelling.done} of {labelling.total} labelled")
            + "</section>"
        )
