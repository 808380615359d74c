"""Bytes that an optimisation step of each published backbone needs: `python -m countgen.benchmarks.speed.memory`.

Predicted from the full-size architectures on tensors without contents: no weights, no GPU, no download. On a GPU the
peak of a step with random weights is measured beside it. `--out docs/memory.md` writes the page.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from countgen.backbones import presets
from countgen.backbones.memory_estimate import MemoryEstimate, estimate_memory, kept_by
from countgen.benchmarks.speed import rehearsal
from countgen.benchmarks.speed.clock import GIB, forget, measure
from countgen.benchmarks.speed.models import MODELS, SIZES, BuiltModel, build, build_critic, device_of, models_of
from countgen.methods.forward_backward import ForwardBackward, eager
from countgen.methods.objective import CONFIRMATION_VIEWS, PLAIN_VIEW, Objective
from countgen.prompts import Target

HEADER = (
    "| model | pixels | steps | decoder | weights | text encoders | kept, fast | kept, low | generating one | "
    "total, fast | total, low |"
)
PAGE = """\
# Memory

GiB that one optimisation step needs, batch 1, in each preset's half precision; printed by
`python -m countgen.benchmarks.speed.memory`. {kind}
The critics come on top, and 1 GiB for detectors' weights and the libraries' workspaces: `countgen` counts the former
by one evaluation and leaves the latter when it checks, before a run, whether it will fit.

- **kept**: activations that wait for the backward. **fast** keeps all; **low** (`memory="low"`, `--memory low`) keeps
  each block's input and computes the rest again, at most as listed. Several steps multiply it: that is why one-step
  models are the ones to tune.
- **generating one**: activations of one image without gradient (search, `plain`), about.
- **total, fast** = weights + text encoders + kept; **total, low** = weights + kept, since the text encoders wait on
  the CPU.
- **critics** keep for a step on three views, counted by an evaluation of one image of 512x512: {critics}. Several
  images at once multiply it, except with `memory="low"`, which evaluates one after the other.
- decoder **tiny**: gradients pass the preset's draft decoder (`--draft`); the full VAE renders what is shown.

{table}
{rehearsed}"""
REHEARSED = """
## Measured on a CPU

Printed by `python -m countgen.benchmarks.speed.rehearsal --size full`: random weights in the published files,
the ordinary command, offline, one step or two with `--memory low`.

- **peak**: the largest resident set of the process, Python and its libraries included: about 1.1 GiB at `--size tiny`.
  The peaks of SANA-Sprint, FLUX.2 [klein] and SD-Turbo at 256 and 512 pixels are upper bounds: they may be those of the
  process that wrote the model.
- **private**: the largest part of it that is no page of a file; "-" where it was not measured. Weights in the published
  number format stay in the pages of their file. Of weights in another format the resident set holds the file's pages
  beside the converted copy until a component is read; the system takes them back where memory is short. That is how
  SDXL-Turbo's peak in bfloat16, read from float16 files, comes to be far above what its step needs.
- **predicted**: the larger of what the step needs in that format and size, with the text encoders, which stay in memory
  on a CPU, the critic and the 1 GiB that is reserved; and of what reading the model needs, the largest converted file
  included.
- CPU seconds are the process's own, of one core that other processes used too. Exit code 1: random weights reach no
  count; 130: interrupted after `--limit` seconds.

{table}
"""
RESULTS = Path(__file__).parents[1] / "results" / "rehearsal.json"


def lines(names: Sequence[str], size: str, device: torch.device) -> list[str]:
    """Return the table's lines: the header, then one per model and decoder; on a GPU with the measured peaks."""
    measured = device.type == "cuda"
    header = HEADER + (" measured, fast | measured, low |" if measured else "")
    return [
        header,
        "| --- " * (header.count("|") - 1) + "|",
        *(line for name in names for line in _lines_of(name, size, device if measured else None)),
    ]


def _lines_of(name: str, size: str, device: torch.device | None) -> list[str]:
    _, preset = presets()[name]
    model = build(name, size, torch.device("meta"), preset.dtype)
    with torch.no_grad():
        embeds = model.encode()
    found = []
    backbone = model.backbone
    drafts = (False,) if backbone.tiny_vae is None else (False, True)
    peaks = {} if device is None else _measured(name, size, device, preset.dtype, drafts)
    for draft in drafts:
        need = estimate_memory(backbone, embeds, draft=draft)
        cells = [f"{number / GIB:.2f}" for number in _numbers(need)]
        cells += [peaks[draft, memory] for memory in ("fast", "low") if peaks]
        what = f"{backbone.height}x{backbone.width} | {backbone.num_inference_steps} | {'tiny' if draft else 'full'}"
        found.append(f"| {name} | {what} | {' | '.join(cells)} |")
    return found


def _numbers(need: MemoryEstimate) -> tuple[int, ...]:
    sizes = (need.weights, need.text_encoders, need.kept, need.kept_low, need.rendered)
    return *sizes, need.total("fast"), need.total("low")


def _measured(
    name: str, size: str, device: torch.device, dtype: torch.dtype, drafts: Sequence[bool]
) -> dict[tuple[bool, str], str]:
    """Return torch's peaks of an eager step with a critic; the text encoders, which need not be there, are not."""
    model = build(name, size, device, dtype)
    model.free_encoders()
    # Nothing is read of it, so embeddings of the right shape do.
    counted = build(name, size, torch.device("meta"), dtype)
    with torch.no_grad():
        embeds = counted.encode().map(lambda tensor: torch.ones(tensor.shape, dtype=tensor.dtype, device=device))
    objective = Objective((build_critic(size, device),), (Target("apple", 5),), PLAIN_VIEW)
    peaks = {}
    for memory in ("fast", "low"):
        if memory == "low":
            model.backbone.save_memory()
        for draft in drafts:
            passes = eager(model.backbone, embeds, [0], objective, draft=draft)
            peaks[draft, memory] = _peak(model, passes, device)
    return peaks


def kept_by_critics(size: str) -> list[tuple[str, float]]:
    """Return the GiB that some detectors keep for the backward of one evaluation of one image on three views."""
    found = []
    for letter in "n" if size == "tiny" else "mx":
        critic = build_critic(size, torch.device("cpu"), letter=letter)
        objective = Objective((critic,), (Target("apple", 5),), CONFIRMATION_VIEWS)
        image = torch.zeros(1, 3, 512, 512).requires_grad_(True)
        found.append((f"YOLO11{letter}", kept_by(partial(objective.evaluate, image)) / GIB))
    return found


def _peak(model: BuiltModel, passes: ForwardBackward, device: torch.device) -> str:
    """Return the peak in GiB; above what was reached where the device has no more."""
    latents = model.backbone.initial_latents([0])

    def step() -> None:
        passes.forward(latents)
        passes.backward()

    forget(device)
    try:
        return f"{measure(step, device, repeats=1, warm_ups=1).allocated / GIB:.2f}"
    except torch.OutOfMemoryError:
        return f"> {torch.cuda.max_memory_allocated() / GIB:.2f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m countgen.benchmarks.speed.memory", description=__doc__)
    parser.add_argument("--models", default=",".join(MODELS), help="with commas")
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="write the page here")
    options = parser.parse_args(arguments)
    device = device_of(parser, options.device)
    table = "\n".join(lines(models_of(parser, options.models), options.size, device))
    print(table)
    if options.out is not None:
        kind = (
            f"The measured columns are torch's peaks on {torch.cuda.get_device_name(device)}, without text encoders."
            if device.type == "cuda"
            else "All numbers are **predicted** from the architectures; none was measured on a GPU."
        )
        critics = ", ".join(f"{name} {kept:.2f}" for name, kept in kept_by_critics(options.size))
        rehearsed = (
            REHEARSED.format(table="\n".join(rehearsal.table(found))) if (found := rehearsal.read(RESULTS)) else ""
        )
        options.out.write_text(
            PAGE.format(kind=kind, critics=critics, table=table, rehearsed=rehearsed), encoding="utf-8"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
