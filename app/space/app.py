"""A Space of countgen: the demo; on ZeroGPU, which lends a GPU to one call at a time, a form for SDXL-Turbo."""

import os
from functools import lru_cache

import spaces
import torch

import countgen
from countgen.images import to_pil
from countgen.prompts.plurals import counts_in_words

MODEL = "stabilityai/sdxl-turbo"
SECONDS = 40
"""Largest time of an image; the GPU is lent for longer, because the judge counts after it."""


@lru_cache
def models(name: str) -> countgen.Models:
    """Return a model with its detectors, loaded once."""
    return countgen.load(name)


@spaces.GPU(duration=SECONDS + 20)
def generate(prompt: str, seed: float, model: str = MODEL) -> tuple[object, object, str]:
    """Return the image of the seed, the one with the right count, and the judge's counts."""
    result = countgen.generate(prompt, models(model), seed=int(seed), max_seconds=SECONDS)
    targets = {target.object_name: target.target_count for target in result.targets}
    return to_pil(result.before), to_pil(result.image), counts_in_words(result.judge_counts, targets)


def main() -> None:
    """Serve on the address that Spaces forward to."""
    host, port = os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0"), int(os.environ.get("GRADIO_SERVER_PORT", 7860))
    if os.environ.get("SPACES_ZERO_GPU"):
        import gradio as gr

        models(MODEL)  # weights are placed before the GPU is lent
        form = [gr.Textbox("a photo of seven apples", label="Prompt"), gr.Number(0, label="Seed", precision=0)]
        images = [gr.Image(label="The seed alone"), gr.Image(label="Counted"), gr.Textbox(label="The judge counts")]
        gr.Interface(generate, form, images, title="countgen").launch(server_name=host, server_port=port)
        return
    from countgen.app.demo.limits import Limits
    from countgen.app.demo.page import build, launch

    embedded = Limits.backbones
    page = build(Limits(backbones=(MODEL, *embedded) if torch.cuda.is_available() else embedded))
    print("serving", launch(page, host=host, port=port, public=True), flush=True)
    page.block_thread()


if __name__ == "__main__":
    main()
