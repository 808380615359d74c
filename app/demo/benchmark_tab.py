"""The tab that shows evaluations."""

from __future__ import annotations

import gradio as gr

from countgen.app.demo import benchmark_view
from countgen.app.demo.html import hint
from countgen.app.demo.limits import RefusedError
from countgen.app.demo.refusals import errors_shown
from countgen.app.demo.run_folders import RunFolders
from countgen.benchmarks.evaluation.metrics import by_arm
from countgen.benchmarks.evaluation.records import Record

NOTHING = hint("There is no evaluation to show: run countgen eval, and start the demo with --runs FOLDER.")
DEFAULT_METHOD = "auto"
"""The method whose failures are shown first."""


class BenchmarkTab:
    """The widgets of the tab and their event handlers."""

    def __init__(self, folders: RunFolders, opened: gr.Tab) -> None:
        self.folders = folders
        with gr.Row(elem_classes="choices"):
            run = gr.Dropdown(folders.names(), value=None, label="Run", elem_id="run", min_width=200)
            judge = gr.Dropdown([], label="Judge", elem_id="judge", min_width=160)
            method = gr.Dropdown([], label="Failures of", elem_id="failing-method", min_width=120)
        overview = gr.HTML(NOTHING, elem_id="overview")
        failing = gr.HTML("", elem_id="failing")
        progress = {"show_progress": "minimal", "show_progress_on": overview}
        everything = {"outputs": [run, judge, method, overview, failing], **progress}
        opened.select(self.open_first, inputs=run, **everything, api_visibility="private")
        run.input(self.open, inputs=run, **everything, api_name="open_run")
        gr.on(
            [judge.input, method.input],
            self.judged,
            inputs=[run, judge, method],
            outputs=[overview, failing],
            **progress,
            api_name="judged",
        )

    def open_first(self, run: str | None) -> tuple[object, ...]:
        """List the runs, and open the first if none is open."""
        names = self.folders.names()
        if not names:
            return gr.skip(), gr.skip(), gr.skip(), NOTHING, ""
        if run in names:
            return gr.update(choices=names), gr.skip(), gr.skip(), gr.skip(), gr.skip()
        return self.open(names[0])

    def open(self, run: str) -> tuple[object, ...]:
        """Return the overview and the failures of one run by its first judge."""
        records = self.read(run)
        judges, methods = benchmark_view.judges_of(records), list(by_arm(records))
        if not judges:
            nothing = gr.update(choices=[], value=None)
            return gr.update(choices=self.folders.names(), value=run), nothing, nothing, hint("No records yet."), ""
        method = DEFAULT_METHOD if DEFAULT_METHOD in methods else methods[0]
        return (
            gr.update(choices=self.folders.names(), value=run),
            gr.update(choices=judges, value=judges[0]),
            gr.update(choices=methods, value=method),
            *self.judged(run, judges[0], method),
        )

    def judged(self, run: str, judge: str, method: str) -> tuple[str, str]:
        """Return the overview of a run by one judge, and the failures of one method."""
        records = self.read(run)
        with errors_shown():
            if judge not in benchmark_view.judges_of(records) or method not in by_arm(records):
                raise RefusedError("This run has no such judge or method; choose one from the list.")
        failing = benchmark_view.failures(records, judge, self.folders.folder(run), method)
        return benchmark_view.overview(records, judge), failing

    def read(self, run: str) -> list[Record]:
        """Return the records of a run."""
        with errors_shown():
            return self.folders.read(run)
