"""The page that shows what count tokens are measured to do, and puts one to use."""

from __future__ import annotations

from typing import Any

import gradio as gr

from countgen.app.demo.form import SHIPPED
from countgen.app.demo.generate_page import QUIET, GeneratePage, upload_button
from countgen.app.demo.jobs import Jobs
from countgen.app.demo.limits import LimitError
from countgen.app.demo.results import Session, sentence, status
from countgen.benchmarks.evaluation.token_records import plain_accuracy, records_of
from countgen.errors import CountGenError
from countgen.prompts.number_words import number_word
from countgen.prompts.plurals import counted
from countgen.tokens.file import CountToken, decoded
from countgen.tokens.library import available_tokens

INTRODUCTION = """
A count token is a new word of the text encoder that stands for a number. Using one costs no more than any other word.
Learning one is a command, `countgen tokens learn`; its file can be used here.
"""


class TokensPage:
    """The widgets of the page and their event handlers."""

    def __init__(self, jobs: Jobs, session: gr.State, generate: GeneratePage, tabs: gr.Tabs) -> None:
        self.jobs, self.generate = jobs, generate
        gr.Markdown(INTRODUCTION)
        models = [name for name in jobs.limits.backbones if available_tokens(name)]
        with gr.Row():
            with gr.Column():
                model = gr.Dropdown(models, label="Model", elem_id="token-model")
                chosen = gr.Dropdown(self._choices(model.value), label="Token", elem_id="token-choice")
                use = gr.Button("Use it in Generate", variant="primary", elem_id="use-token")
                given = upload_button("Use a token file", ".safetensors", "token-file")
                self.status = gr.HTML(padding=False, elem_id="token-status")
            with gr.Column():
                table = gr.Markdown(measured_table(model.value), elem_id="token-table")
        model.change(
            lambda name: (measured_table(name), gr.Dropdown(self._choices(name))), model, [table, chosen], **QUIET
        )
        form = [generate.fields[name] for name in ("prompt", "backbone", "method", "token")]
        use.click(self.use, [chosen, model, session], [tabs, *form], **QUIET)
        given.upload(self.upload, [given, session], [self.status, tabs, *form, given], **QUIET)

    @staticmethod
    def _choices(model: str | None) -> list[str]:
        return list(available_tokens(model)) if model else []

    def use(self, name: str, model: str, session: Session) -> list[Any]:
        """Open the Generate page with a shipped token and a prompt for it."""
        token = available_tokens(model).get(name) if model in self.jobs.limits.backbones else None
        if token is None:
            raise gr.Error("Choose a token of the list.", print_exception=False)
        return [gr.Tabs(selected="generate"), prompt_for(token), model, "plain", SHIPPED]

    def upload(self, content: bytes | None, session: Session) -> list[Any]:
        """Keep an uploaded token and open the Generate page with it."""
        try:
            if not content or len(content) > self.jobs.limits.max_token_bytes:
                raise LimitError("A token file has at most 1 MiB.")
            token = decoded(content, "This file")
            self.jobs.limits.check_count(token.target_count)
        except (CountGenError, ValueError) as error:
            return [status(sentence(error), "wrong"), *[gr.skip()] * 5, None]
        self.jobs.tokens.keep(token, self.jobs.limits.max_tokens)
        session.tokens[token.sha256] = f"{token.name}, from a file"
        model = token.base_model if token.base_model in self.jobs.limits.backbones else gr.skip()
        choices = gr.update(choices=self.generate.token_choices(session), value=token.sha256)
        told = status(f"{token.name} is in use on the page Generate.")
        return [told, gr.Tabs(selected="generate"), prompt_for(token), model, "plain", choices, None]


def prompt_for(token: CountToken) -> str:
    """Return a prompt with the token's count as a number word."""
    return f"a photo of {number_word(token.target_count)} {counted(token.object_names[0], token.target_count)}"


def measured_table(model: str | None) -> str:
    """Return what the shipped tokens of a model were measured to do, as Markdown."""
    if model is None:
        return "No token is shipped for these models."
    rows = ["| token | right with it | right with the word |", "| --- | --- | --- |"]
    for name, token in available_tokens(model).items():
        records = records_of(token)
        right = "not measured" if token.accuracy is None else f"{token.accuracy:.0%}"
        word = f"{plain_accuracy(records, token.target_count)[0]:.0%}" if records else "not measured"
        rows.append(f"| {name} | {right} | {word} |")
    return "\n".join(
        [*rows, "", "Images of one evaluation each, on seeds that the token was not learned on, by the judge."]
    )
