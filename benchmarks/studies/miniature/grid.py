"""One page of plain samples: every object three, six and nine times."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from benchmarks.studies.cases import SEEDS, Case, phrase, target
from benchmarks.studies.miniature.samples import draw
from countgen.backbones import Backbone
from countgen.miniature.world import IMAGE_SIZE, OBJECT_NAMES

COUNTS = (3, 6, 9)
OBJECTS_A_ROW = 4
MARGIN = 6
LABEL = 14
QUALITY = 70


def grid_cases() -> list[Case]:
    """Every object with every count of `COUNTS`, row by row; a seed each, from those for reporting."""
    first = SEEDS["reporting"] + 200_000
    return [
        Case(f"a photo of {phrase(kind, count)}", (target(kind, count),), first + 100 * kind + count)
        for kind in range(len(OBJECT_NAMES))
        for count in COUNTS
    ]


def to_pil(image: Tensor) -> Image.Image:
    """PIL image of RGB (3, H, W) in [0, 1]."""
    return Image.fromarray((image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())


def grid(backbone: Backbone, cases: list[Case]) -> Image.Image:
    """The page: objects in blocks of three images, labelled with what was asked for."""
    drawn = dict(draw(backbone, cases))
    blocks = [cases[begin : begin + len(COUNTS)] for begin in range(0, len(cases), len(COUNTS))]
    block_width = len(COUNTS) * IMAGE_SIZE + MARGIN
    block_height = LABEL + IMAGE_SIZE + MARGIN
    rows = -(-len(blocks) // OBJECTS_A_ROW)
    page = Image.new("RGB", (OBJECTS_A_ROW * block_width - MARGIN, rows * block_height - MARGIN), "white")
    pen = ImageDraw.Draw(page)
    for number, block in enumerate(blocks):
        left, top = number % OBJECTS_A_ROW * block_width, number // OBJECTS_A_ROW * block_height
        for place, case in enumerate(block):
            x = left + place * IMAGE_SIZE
            pen.text((x + 2, top + 1), case.prompt.removeprefix("a photo of "), fill="black")
            page.paste(to_pil(drawn[case]), (x, top + LABEL))
    return page


def save(page: Image.Image, path: Path) -> None:
    """Write the page as JPEG, a fifth of the size of a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    page.save(path, quality=QUALITY, optimize=True)
