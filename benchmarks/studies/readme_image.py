"""The README's image: `python -m benchmarks.studies.readme_image`.

Images of one seed above, the same images edited to the right count below, with the judge's boxes and counts.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

import countgen
from countgen.images import draw_boxes, save_png
from critics import Detections

PROMPTS = (
    "a photo of seven apples",
    "a photo of nine butterflies",
    "a photo of five cats and three dogs",
    "a photo of ten strawberries",
)
SEED = 18
"""A seed with clear images at which the model alone is wrong four times and the edit right four times.

It shows what countgen does, not how often; the first such seed is 16.
"""
GAP = 8


def boxed(image: torch.Tensor, targets: Sequence[countgen.Target], detections: Sequence[Detections]) -> Image.Image:
    """Return the image with the judge's boxes and its counts."""
    pairs = zip(detections, targets, strict=True)
    label = " + ".join(f"{len(found)} of {target.target_count}" for found, target in pairs)
    return draw_boxes(image, torch.cat([found.boxes for found in detections]), label, enlarge=2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.readme_image", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/before-after.png"))
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args(arguments)
    models = countgen.load()
    columns = []
    for prompt in PROMPTS:
        result = countgen.generate(prompt, models, method="edit", seed=options.seed)
        pair = ((result.before, result.before_detections), (result.image, result.detections))
        columns.append([boxed(image, result.targets, detections) for image, detections in pair])
        print(f"{prompt}: critic {result.counts}, judge {result.judge_counts}, {result.seconds:.2f} s")
    width, height = columns[0][0].size
    sheet = Image.new("RGB", ((width + GAP) * len(columns) - GAP, 2 * height + GAP), "white")
    for x, column in enumerate(columns):
        for y, image in enumerate(column):
            sheet.paste(image, (x * (width + GAP), y * (height + GAP)))
    # 256 colours are enough to see it, in a third of the bytes.
    save_png(
        sheet.quantize(256, Image.Quantize.MEDIANCUT, kmeans=4, dither=Image.Dither.NONE), options.out, overwrite=True
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
