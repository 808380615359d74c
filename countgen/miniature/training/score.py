"""Counting accuracy of a generator's one-step images without optimisation, by the independent judge."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from countgen.critics.base import Critic
from countgen.miniature import FOLDER
from countgen.miniature.training.export import place
from countgen.miniature.training.generator import FAMILIES, LATENT_SHAPE, decode, read_generator
from countgen.miniature.world import NUMBER_WORDS, OBJECT_NAMES, PLURALS

COUNTS = range(1, 16)
BATCH_SIZE = 32


def evaluation_prompts(number: int, seed: int) -> list[tuple[str, str, int]]:
    """Return (prompt, object name, count) with counts 1 to 15 in turn, and objects in turn from a shuffled list."""
    rng = np.random.default_rng(seed)
    kinds = np.concatenate([rng.permutation(len(OBJECT_NAMES)) for _ in range(number // len(OBJECT_NAMES) + 1)])
    rows = []
    for index in range(number):
        count, kind = COUNTS[index % len(COUNTS)], int(kinds[index])
        things = OBJECT_NAMES[kind] if count == 1 else PLURALS[kind]
        rows.append((f"a photo of {NUMBER_WORDS[count]} {things}", OBJECT_NAMES[kind], count))
    return rows


@torch.no_grad()
def score(
    folder: Path, judge: Critic, *, prompts: int = 480, seed: int = 0, device: str = "cpu", family: str | None = None
) -> dict[str, object]:
    """Return the exact-count accuracy of one-step images in float32, overall and by count.

    Args:
        folder: stock one-step pipeline of either family.
        judge: critic that counts the images; it must not have been used in training.
        prompts: number of prompts with one image each; their noise depends only on the seed, so that generators are
            compared on the same noise.
        seed: seed of prompts and noise.
        device: device of the generator.
        family: "unet" or "pixart"; None reads it from the folder.
    """
    family = family or ("unet" if (folder / "unet").is_dir() else "pixart")
    generator, vae = read_generator(FAMILIES[family], folder)
    place(generator.eval(), device)
    place(vae, device)
    rows = evaluation_prompts(prompts, seed)
    noise = torch.randn(prompts, *LATENT_SHAPE, generator=torch.Generator().manual_seed(seed))
    right: dict[int, list[bool]] = defaultdict(list)
    errors = []
    for begin in range(0, prompts, BATCH_SIZE):
        part = rows[begin : begin + BATCH_SIZE]
        conditioning = generator.encode(generator.tokenize([prompt for prompt, _, _ in part]).to(device))
        images = decode(vae, generator.one_step(noise[begin : begin + BATCH_SIZE].to(device), conditioning))
        for image, (_, name, count) in zip(images.clamp(0, 1), part, strict=True):
            found = judge.count(image, name)
            right[count].append(found == count)
            errors.append(abs(found - count))
    by_count = {count: round(100 * float(np.mean(right[count])), 1) for count in sorted(right)}
    overall = 100 * float(np.mean([hit for hits in right.values() for hit in hits]))
    return {
        "folder": str(folder),
        "overall": round(overall, 1),
        "mae": round(float(np.mean(errors)), 3),
        "by_count": by_count,
    }


def print_score(folder: Path, *, prompts: int, seed: int, device: str) -> None:
    """Print the accuracy by the shipped FCOS judge as one line of JSON."""
    from countgen.critics.detectors import fcos

    judge = fcos.load(weights=FOLDER / "judge" / "model.safetensors", device=device)
    print(json.dumps(score(folder, judge, prompts=prompts, seed=seed, device=device)), flush=True)
