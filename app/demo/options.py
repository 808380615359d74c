"""The fields of the Generate tab below the prompt."""

from __future__ import annotations

import gradio as gr

from countgen.app.demo.generate_form import RANDOM_SEED
from countgen.app.demo.limits import Limits
from countgen.app.demo.settings_form import HIDDEN, settings_form

SHIPPED = (("none", "none"), ("shipped with countgen", "shipped"))
_METHOD_NAMES = {"lmn": "LMN"}


class Options:
    """The widgets; their names are those of `GenerateForm`.

    Attributes:
        settings: text field, which the fields of `settings_form` write.
    """

    def __init__(self, limits: Limits) -> None:
        with gr.Row(elem_classes="seed"):
            self.seed = gr.Number(
                RANDOM_SEED,
                label="Seed (-1: random)",
                precision=0,
                minimum=RANDOM_SEED,
                maximum=2**32 - 1,
                min_width=120,
                scale=3,
                elem_id="seed",
            )
            random = gr.Button("\N{DIE FACE-5} Random", size="sm", min_width=60, elem_id="random-seed")
            self.reuse_seed = gr.Button("Reuse", size="sm", min_width=60, elem_id="reuse-seed")
        random.click(
            lambda: RANDOM_SEED, outputs=self.seed, queue=False, show_progress="hidden", api_visibility="private"
        )
        with gr.Row():
            self.seconds = gr.Dropdown(
                [(f"{s} seconds", s) for s in limits.seconds],
                value=limits.seconds[1],
                label="Time limit of an image",
                min_width=120,
                elem_id="seconds",
            )
            self.until = gr.Dropdown(
                [("steering agrees", "critic"), ("the judge agrees", "judge")],
                value="critic",
                label="It ends when",
                min_width=140,
                elem_id="until",
            )
        with gr.Row():
            self.images = gr.Dropdown(
                list(limits.images), value=1, label="Images", min_width=70, elem_id="images", scale=1
            )
            self.backbone = gr.Dropdown(
                list(limits.backbones), value=limits.backbones[0], label="Model", min_width=120, scale=2
            )
            self.token = gr.Dropdown(
                list(SHIPPED), value="none", label="Count token", min_width=120, elem_id="token", scale=2
            )
        with gr.Accordion("Negative prompt, steps, guidance, method", open=False, elem_id="more"):
            self.negative_prompt = gr.Textbox(
                label="Negative prompt (needs guidance above 1)",
                max_length=limits.max_prompt_length,
                elem_id="negative-prompt",
            )
            with gr.Row():
                self.num_inference_steps, self.guidance_scale = (
                    gr.Textbox(
                        "", label=label, placeholder="the model's own", max_length=10, min_width=120, elem_id=name
                    )
                    for label, name in (("Sampler steps", "steps"), ("Guidance scale", "guidance"))
                )
            self.method = gr.Radio(
                [(_METHOD_NAMES.get(name, name.capitalize()), name) for name in limits.methods],
                value=limits.methods[0],
                label="Method",
                elem_id="method",
            )
            self.settings_form = gr.HTML(settings_form(limits, limits.methods[0]), elem_id="settings-form")
            self.settings = gr.Textbox("", label="Settings of the method", visible="hidden", elem_id=HIDDEN)
        self.method.input(
            lambda method: (settings_form(limits, limits.check_method(method)), ""),
            inputs=self.method,
            outputs=[self.settings_form, self.settings],
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )
