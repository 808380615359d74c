"""Pairs of noise and latents for distillation, sampled with a teacher's ODE; pairs with a wrong count are rejected."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from countgen.miniature import FOLDER
from countgen.miniature.training.checkpoint import check_identity
from countgen.miniature.training.critic import read_critic
from countgen.miniature.training.detector_accuracy import detector_counter
from countgen.miniature.training.export import export, place
from countgen.miniature.training.generator import FAMILIES, LATENT_SHAPE, Family, Generator, decode, read_generator
from countgen.miniature.training.loop import METRICS, StageSettings, autocast
from countgen.miniature.training.ode import integrate
from countgen.miniature.training.scenes import UNSPECIFIED, sample_captioned, save_grid

BATCH_SIZE = 1024
PAIRS = 80_000
SHARD_ROWS = 8192
DECODED_AT_ONCE = 256
TEACHER = "teacher"


def right_counts(targets: Tensor, counts: Tensor) -> Tensor:
    """Return whether every count that the caption specifies is right and no other object is present, bool (B,)."""
    return ((targets == UNSPECIFIED) | (targets == counts)).all(1)


def shards(folder: Path) -> list[Path]:
    """Return the finished shards of a folder, in order."""
    return sorted(folder.glob("pairs-*.safetensors"))


def read_captions(shard: Path) -> list[str]:
    """Read the captions of a shard, in the order of its rows."""
    captions: list[str] = json.loads(shard.with_suffix(".json").read_text())
    return captions


def read_pairs(folder: Path, generator: Generator, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Read all pairs to the device: noise and latents, float16 (N, 4, 32, 32), and tokens, int16 (N, 2, 32).

    Raises:
        ValueError: the folder holds no pairs.
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


def write_shard(
    folder: Path,
    number: int,
    noise: Tensor,
    latents: Tensor,
    captions: Sequence[str],
    identity: Mapping[str, str] | None = None,
) -> None:
    """Write a shard, `pairs-NUMBER.safetensors` with the metadata `identity`, and a JSON file with its captions."""
    # Captions are written first and the tensors are renamed into place, so that a shard never exists without captions.
    path = folder / f"pairs-{number:05d}.safetensors"
    path.with_suffix(".json").write_text(json.dumps(list(captions)))
    partial = path.with_suffix(".partial")
    tensors = {"noise": noise.cpu().contiguous(), "latents": latents.cpu().contiguous()}
    save_file(tensors, partial, metadata=dict(identity or {}))
    os.replace(partial, path)


def _teacher_folder(family: Family, settings: StageSettings) -> Path:
    """Return the folder of the teacher's copy in the run's folder; the first run copies it from `init`.

    Raises:
        ValueError: the first run has no `init`, or the folder was started with other settings.
    """
    folder, found = settings.out / TEACHER, shards(settings.out)
    identity = settings.identity
    if settings.init is None:
        if not (folder / "model_index.json").is_file():
            raise ValueError("pairs need a teacher: give --init, the pipeline folder that its stage wrote")
        del identity["init"]
    if found:
        with safe_open(found[0], "pt") as file:
            check_identity(identity, file.metadata() or {}, settings.out)
    elif settings.init is not None:
        export(*read_generator(family, settings.init), folder, one_step=False)
    return folder


def _used(folder: Path) -> tuple[int, float]:
    """Return batches and seconds of earlier runs from their log."""
    log = folder / METRICS
    batches, seconds = 0, 0.0
    for line in log.read_text().splitlines() if log.is_file() else []:
        with suppress(ValueError):  # an incomplete line of a killed run
            batches, seconds = batches + 1, float(json.loads(line)["seconds"])
    return batches, seconds


def _pairs(family: Family, settings: StageSettings) -> None:
    device, out, number_of_pairs = settings.device, settings.out, settings.number or PAIRS
    out.mkdir(parents=True, exist_ok=True)
    folder = _teacher_folder(family, settings)
    done = sum(len(read_captions(path)) for path in shards(out))
    batches, used = _used(out)
    begun = time.monotonic()

    def seconds() -> float:
        return used + time.monotonic() - begun

    def finished() -> bool:
        spent = settings.seconds is not None and seconds() >= settings.seconds
        return done >= number_of_pairs or spent or (settings.iterations is not None and batches >= settings.iterations)

    if finished():
        what = f"{out} is finished: {done} pairs, {batches} batches, {used:.0f} s"
        print(f"{what}; larger limits resume it (--number, --iterations, --seconds)", flush=True)
        return
    generator, vae = read_generator(family, folder)
    place(generator.eval().requires_grad_(False), device)
    place(vae, device)
    critic = read_critic(settings.data or FOLDER / "critic", device)
    count = detector_counter(critic)
    batch_size = settings.batch_size or BATCH_SIZE
    tried = right_ones = 0

    def batch(rng: np.random.Generator, seeds: torch.Generator) -> tuple[Tensor, Tensor, list[str]]:
        """Sample a batch, and return noise, latents and captions of the images with the right count."""
        _, sampled, targets = sample_captioned(batch_size, rng)
        noise = torch.randn(batch_size, *LATENT_SHAPE, generator=seeds, device=device).half()
        tokens = generator.tokenize(sampled).to(device)
        with autocast(device):
            latents = integrate(generator, noise, tokens, steps=family.ode_steps, guidance_scale=family.guidance_scale)
        with torch.no_grad():
            images = (decode(vae, part).clamp(0, 1) for part in latents.split(DECODED_AT_ONCE))
            counts = torch.cat([count(part, [critic.settings.threshold])[0] for part in images])
        right = right_counts(torch.from_numpy(targets).to(device), counts) & latents.isfinite().all((1, 2, 3))
        captions = [text for text, keep in zip(sampled, right.tolist(), strict=True) if keep]
        return noise[right], latents[right].half(), captions

    while not finished():
        number, begun_with = len(shards(out)), done
        rng = np.random.default_rng((settings.seed, number))
        seeds = torch.Generator(device).manual_seed(settings.seed * 1_000_003 + number)
        kept: list[tuple[Tensor, Tensor, list[str]]] = []
        try:
            while done - begun_with < SHARD_ROWS and not finished():
                kept.append(batch(rng, seeds))
                batches += 1
                tried, right_ones = tried + batch_size, right_ones + len(kept[-1][2])
                done += len(kept[-1][2])
                record = {"pairs": done, "kept": round(right_ones / tried, 4), "seconds": round(seconds(), 1)}
                print(json.dumps(record), flush=True)
                with (out / METRICS).open("a") as log:
                    log.write(json.dumps(record) + "\n")
        finally:  # an interrupted run keeps its pairs too
            if done > begun_with:
                noise, latents = torch.cat([rows[0] for rows in kept]), torch.cat([rows[1] for rows in kept])
                captions = [caption for _, _, some in kept for caption in some]
                write_shard(out, number, noise, latents, captions, settings.identity)
                save_grid(vae, latents[:32].float(), out / f"sample-{number:05d}.png")


def pairs(settings: StageSettings) -> None:
    """Make pairs of the U-Net teacher; `init` is the teacher's pipeline folder, `data` the critic's folder.

    A later run in the same folder adds pairs of the same teacher, whose copy is in the folder. `seconds` and
    `iterations` (batches) limit the sum over all runs.
    """
    _pairs(FAMILIES["unet"], settings)


def pixart_pairs(settings: StageSettings) -> None:
    """Make pairs of the PixArt teacher, with the settings of `pairs`."""
    _pairs(FAMILIES["pixart"], settings)
