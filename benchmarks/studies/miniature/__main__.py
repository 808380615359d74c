"""The embedded models' own card: `python -m benchmarks.studies.miniature --write`.

Detectors on fresh rendered scenes by count, generators by count, object and number of steps, agreement of the
detectors on plain samples, CPU seconds, and a page of samples. Scenes, prompts and seeds are apart from those that
weights and thresholds were chosen on. `--quick` takes a twentieth of the images, for a look.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks.studies.cases import one_class
from benchmarks.studies.miniature import grid, samples, scenes, times
from countgen import backbones, miniature
from countgen.miniature import checksums

CARD = miniature.FOLDER / "README.md"
PAGE = Path("docs") / "miniature-samples.jpg"
BEGIN, END = "<!-- card: written by benchmarks.studies.miniature -->", "<!-- end of the card -->"
GENERATORS = {"SDXL-shaped": "miniature", "PixArt-shaped": "miniature-pixart"}


@dataclass(frozen=True)
class Size:
    """How many images the card is made of.

    Attributes:
        scenes: rendered, of each of 21 counts.
        samples: plain one-step images of each generator and each of 15 counts.
        more_steps: the same at each other number of steps.
        repeats: of what is timed.
    """

    scenes: int = 100
    samples: int = 48
    more_steps: int = 24
    repeats: int = 15


QUICK = Size(scenes=5, samples=2, more_steps=1, repeats=3)


def card(size: Size, page: Path | None) -> str:
    """Measure everything.

    Args:
        size: how much.
        page: where the page of samples is written; None for nowhere.

    Returns:
        Markdown.
    """
    detectors = [miniature.load_detector(name) for name in miniature.DETECTORS]
    drawers = {label: backbones.load(name) for label, name in GENERATORS.items()}
    say("seconds")
    critic = next(d for d in detectors if d.name == miniature.CRITICS[0])
    timed = times.table(drawers, critic, size.repeats)
    timed += "\n\n" + times.detector_table(detectors, size.repeats)
    say("page of samples")
    first = next(iter(drawers.values()))
    if page is not None:
        grid.save(grid.grid(first, grid.grid_cases()), page)
    say("samples")
    cases = one_class(samples.COUNTS, size.samples, "reporting")
    one_step = [f"{label}, 1 step" for label in drawers]
    found = [
        sample
        for name, backbone in zip(one_step, drawers.values(), strict=True)
        for sample in samples.samples(name, backbone, cases, detectors)
    ]
    fewer = one_class(samples.COUNTS, size.more_steps, "reporting")
    label, preset = next(iter(GENERATORS.items()))
    for steps in samples.MORE_STEPS:
        backbone = backbones.load(preset, num_inference_steps=steps)
        found += samples.samples(f"{label}, {steps} steps", backbone, fewer, detectors)
    say("scenes")
    seen = scenes.sightings(detectors, first.pipeline.vae, size.scenes)
    names = [d.name for d in detectors]
    thresholds = ", ".join(f"{d.name} {d.threshold}" for d in detectors if d.detects)
    return "\n\n".join(
        [
            provenance(size),
            "### Detectors: all objects of a scene counted right, %",
            f"Fresh rendered scenes, as they are and after a VAE round trip, every fifth with two kinds of object; all "
            f"24 objects must be right, zeros included. Thresholds as shipped: {thresholds}. [95 % interval]",
            scenes.table(seen, names),
            f"### Generators: plain images with the right count, %, by {miniature.JUDGE}",
            '"a photo of seven apples", every object equally often at every count; nothing is optimised or chosen.',
            samples.count_table(found, miniature.JUDGE),
            f"### Generators: by object, all counts, %, by {miniature.JUDGE}",
            samples.object_table(found, miniature.JUDGE, one_step),
            "### Detectors: the same count on plain images, %",
            samples.agreement_table(found, names, one_step),
            f"### CPU seconds, median, threads: {torch.get_num_threads()}",
            f"Prompt encoded once; gradient of {critic.name}'s loss at the latents.",
            timed,
        ]
    )


def provenance(size: Size) -> str:
    """What made the card: the command, the libraries, the weights."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "diffusers", "ultralytics", "torchvision"))
    weights = ", ".join(
        f"{path.rsplit('/', 1)[0]} {digest[:8]}"
        for path, digest in checksums.measured().items()
        if path.endswith(".safetensors") and "text_encoder" not in path and not path.startswith("tokens/")
    )
    options = f" --quick (a look: {size.scenes * 21} scenes)" if size == QUICK else ""
    command = f"python -m benchmarks.studies.miniature{options}"
    return f"Measured by `{command}` with {libraries}.\nWeights (SHA-256): {weights}."


def replaced(text: str, new: str) -> str:
    """A document with the card between its markers exchanged.

    Raises:
        ValueError: the markers are missing or in the wrong order.
    """
    before, begun, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not begun or not ended:
        raise ValueError(f"the document lacks its markers: put {BEGIN} and {END} on lines of their own, in this order")
    return f"{before}{BEGIN}\n\n{new}\n\n{END}{after}"


def say(what: str) -> None:
    """Name the section that is being measured, on a terminal."""
    if sys.stderr.isatty():
        print(what, file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.miniature", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few images")
    parser.add_argument("--write", action="store_true", help=f"put the card into {CARD.name} of the miniature")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the page of samples goes with --write")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    made = card(QUICK if options.quick else Size(), options.page if options.write else None)
    if options.write:
        CARD.write_text(replaced(CARD.read_text(encoding="utf-8"), made), encoding="utf-8")
        checksums.write(CARD.parent)
    print(made)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
