"""Make the README's picture: `python docs/before_after.py` writes docs/before-after.png.

Images of one seed above, the same images with the count edited below; boxes and counts by a judge that steered nothing.
"""

from pathlib import Path

import torch
from PIL import Image

import countgen
from countgen.images import draw_boxes

PROMPTS = (
    "a photo of seven apples",
    "a photo of nine butterflies",
    "a photo of five cats and three dogs",
    "a photo of ten strawberries",
)
SEED = 18
GAP = 8


def boxed(image, detections, targets):
    """Return the image, twice as large, with the judge's boxes and its counts."""
    counts = zip(detections, targets, strict=True)
    label = " + ".join(f"{len(of_class)} of {target.target_count}" for of_class, target in counts)
    return draw_boxes(image, torch.cat([of_class.boxes for of_class in detections]), label, enlarge=2)


def sheet(prompts=PROMPTS, seed=SEED):
    """Return one picture: a column for each prompt."""
    models = countgen.load("miniature")
    columns = []
    for prompt in prompts:
        result = countgen.generate(prompt, models, method="edit", seed=seed)
        pairs = ((result.before, result.before_detections), (result.image, result.detections))
        columns.append([boxed(*pair, result.targets) for pair in pairs])
        print(f"{prompt}: {result.judge_counts} by the judge, {result.evaluations} evaluations")
    width, height = columns[0][0].size
    picture = Image.new("RGB", (len(columns) * (width + GAP) - GAP, 2 * height + GAP), "white")
    for number, (before, after) in enumerate(columns):
        picture.paste(before, (number * (width + GAP), 0))
        picture.paste(after, (number * (width + GAP), height + GAP))
    return picture


if __name__ == "__main__":
    small = sheet().quantize(256, Image.Quantize.MEDIANCUT, kmeans=4, dither=Image.Dither.NONE)  # a third of the bytes
    small.save(Path(__file__).with_name("before-after.png"), optimize=True)
