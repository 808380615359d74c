"""Pairs of noise and image for distillation, made by a teacher's ODE; those with a wrong count are rejected."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from countgen.miniature import FOLDER
from countgen.miniature.train.critic import count_all, read_critic
from countgen.miniature.train.export import export, place
from countgen.miniature.train.generator import FAMILIES, LATENT_SHAPE, Family, Generator, decode, read_generator
from countgen.miniature.train.loop import StageSettings, autocast
from countgen.miniature.train.ode import integrate
from countgen.miniature.train.scenes import UNASKED, sample_captioned

BATCH_SIZE = 1024
PAIRS = 80_000
SHARD_ROWS = 8192
TEACHER = "teacher"


def right_counts(asked: Tensor, counts: Tensor) -> Tensor:
    """bool (B,): every object is there as often as the caption says, and no other object is."""
    return ((asked == UNASKED) | (asked == counts)).all(1)


def shards(folder: Path) -> list[Path]:
    """The finished shards of a folder, in order."""
    return sorted(folder.glob("pairs-*.safetensors"))


def read_captions(shard: Path) -> list[str]:
    """The captions that belong to a shard, row by row."""
    captions: list[str] = json.loads(shard.with_suffix(".json").read_text())
    return captions


def read_pairs(folder: Path, generator: Generator, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """All pairs on the device: noise and latents, float16 (N, 4, 32, 32), and tokens, int16 (N, 2, 32).

    Raises:
        ValueError: the folder holds none.
    """
    found = shards(folder)
    if not found:
        raise ValueError(f"{folder} holds no pairs-*.safetensors; make pairs first, or give another --data")
    tensors = [load_file(path, device=device) for path in found]
    tokens = [generator.tokenize(read_captions(path)) for path in found]
    return (
        torch.cat([t["noise"] for t in tensors]),
        torch.cat([t["latents"] for t in tensors]),
        torch.cat(tokens).to(device),
    )


def write_shard(folder: Path, number: int, noise: Tensor, latents: Tensor, captions: Sequence[str]) -> None:
    """Save one shard, `pairs-NUMBER.safetensors` with its captions in a JSON file beside it."""
    # The captions go first and the tensors are renamed into place: a shard is there whole or not at all.
    path = folder / f"pairs-{number:05d}.safetensors"
    path.with_suffix(".json").write_text(json.dumps(list(captions)))
    partial = path.with_suffix(".partial")
    save_file({"noise": noise.cpu().contiguous(), "latents": latents.cpu().contiguous()}, partial)
    os.replace(partial, path)


def _pairs(family: Family, settings: StageSettings) -> None:
    device, wanted = settings.device, settings.number or PAIRS
    settings.out.mkdir(parents=True, exist_ok=True)
    generator, vae = read_generator(family, settings.init or family.folder)
    export(generator, vae, settings.out / TEACHER, one_step=False)
    place(generator.eval().requires_grad_(False), device)
    place(vae, device)
    critic = read_critic(settings.data or FOLDER / "critic", device)
    batch_size = settings.batch_size or BATCH_SIZE
    begun, tried, kept_rows = time.monotonic(), 0, 0
    done = sum(len(read_captions(path)) for path in shards(settings.out))
    while done < wanted and not (settings.seconds and time.monotonic() - begun > settings.seconds):
        number = len(shards(settings.out))
        rng = np.random.default_rng((settings.seed, number))
        seeds = torch.Generator(device).manual_seed(settings.seed * 1_000_003 + number)
        kept: list[tuple[Tensor, Tensor]] = []
        captions: list[str] = []
        while len(captions) < min(SHARD_ROWS, wanted - done):
            _, drawn, asked = sample_captioned(batch_size, rng)
            noise = torch.randn(batch_size, *LATENT_SHAPE, generator=seeds, device=device).half()
            with autocast(device):
                latents = integrate(
                    generator,
                    noise,
                    generator.tokenize(drawn).to(device),
                    steps=family.ode_steps,
                    guidance_scale=family.guidance_scale,
                )
            with torch.no_grad():
                counts = torch.cat([count_all(critic, decode(vae, part)) for part in latents.split(256)])
            right = right_counts(torch.from_numpy(asked).to(device), counts) & latents.isfinite().all((1, 2, 3))
            kept.append((noise[right], latents[right].half()))
            captions += [text for text, keep in zip(drawn, right.tolist(), strict=True) if keep]
            tried, kept_rows = tried + batch_size, kept_rows + int(right.sum())
            if settings.seconds and time.monotonic() - begun > settings.seconds:
                break
        if captions:
            write_shard(
                settings.out, number, torch.cat([n for n, _ in kept]), torch.cat([x for _, x in kept]), captions
            )
        done += len(captions)
        seconds = time.monotonic() - begun
        record = {"pairs": done, "kept": round(kept_rows / max(tried, 1), 4), "seconds": round(seconds, 1)}
        print(json.dumps(record), flush=True)
        with (settings.out / "metrics.jsonl").open("a") as log:
            log.write(json.dumps(record) + "\n")


def pairs(settings: StageSettings) -> None:
    """Make the U-Net teacher's pairs; `init` is the teacher's pipeline folder, `data` the critic's folder."""
    _pairs(FAMILIES["unet"], settings)


def pixart_pairs(settings: StageSettings) -> None:
    """Make the PixArt teacher's pairs; `init` is the teacher's pipeline folder, `data` the critic's folder."""
    _pairs(FAMILIES["pixart"], settings)
