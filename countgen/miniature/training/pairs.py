"""Pairs of noise and image for distillation, made by a teacher's ODE; those with a wrong count are rejected."""

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
from countgen.miniature.training.checkpoint import refuse_other
from countgen.miniature.training.critic import read_critic
from countgen.miniature.training.detector_accuracy import detector_counter
from countgen.miniature.training.export import export, place
from countgen.miniature.training.generator import FAMILIES, LATENT_SHAPE, Family, Generator, decode, read_generator
from countgen.miniature.training.loop import METRICS, StageSettings, autocast
from countgen.miniature.training.ode import integrate
from countgen.miniature.training.scenes import UNASKED, sample_captioned, save_grid

BATCH_SIZE = 1024
PAIRS = 80_000
SHARD_ROWS = 8192
DECODED_AT_ONCE = 256
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


def write_shard(
    folder: Path,
    number: int,
    noise: Tensor,
    latents: Tensor,
    captions: Sequence[str],
    asked: Mapping[str, str] | None = None,
) -> None:
    """Save one shard, `pairs-NUMBER.safetensors` with its captions in a JSON file beside it; its notes are `asked`."""
    # The captions go first and the tensors are renamed into place: a shard is there whole or not at all.
    path = folder / f"pairs-{number:05d}.safetensors"
    path.with_suffix(".json").write_text(json.dumps(list(captions)))
    partial = path.with_suffix(".partial")
    tensors = {"noise": noise.cpu().contiguous(), "latents": latents.cpu().contiguous()}
    save_file(tensors, partial, metadata=dict(asked or {}))
    os.replace(partial, path)


def _teacher_folder(family: Family, settings: StageSettings) -> Path:
    """The copy of the teacher in the run's folder: made of `init` at first, and what a later run goes on with.

    Raises:
        ValueError: no teacher is named at first, or the folder was begun with something else.
    """
    folder, found = settings.out / TEACHER, shards(settings.out)
    asked = settings.asked
    if settings.init is None:
        if not (folder / "model_index.json").is_file():
            raise ValueError("pairs are made by a teacher: give --init, the pipeline folder that its stage wrote")
        del asked["init"]
    if found:
        with safe_open(found[0], "pt") as file:
            refuse_other(asked, file.metadata() or {}, settings.out)
    elif settings.init is not None:
        export(*read_generator(family, settings.init), folder, one_step=False)
    return folder


def _used(folder: Path) -> tuple[int, float]:
    """Batches and seconds of the runs before, as their log says."""
    log = folder / METRICS
    batches, seconds = 0, 0.0
    for line in log.read_text().splitlines() if log.is_file() else []:
        with suppress(ValueError):  # half a line, of a run that was killed
            batches, seconds = batches + 1, float(json.loads(line)["seconds"])
    return batches, seconds


def _pairs(family: Family, settings: StageSettings) -> None:
    device, out, wanted = settings.device, settings.out, settings.number or PAIRS
    out.mkdir(parents=True, exist_ok=True)
    folder = _teacher_folder(family, settings)
    done = sum(len(read_captions(path)) for path in shards(out))
    batches, used = _used(out)
    begun = time.monotonic()

    def seconds() -> float:
        return used + time.monotonic() - begun

    def finished() -> bool:
        spent = settings.seconds is not None and seconds() >= settings.seconds
        return done >= wanted or spent or (settings.iterations is not None and batches >= settings.iterations)

    if finished():
        what = f"{out} is finished: {done} pairs, {batches} batches, {used:.0f} s"
        print(f"{what}; it goes on with larger bounds (--number, --iterations, --seconds)", flush=True)
        return
    generator, vae = read_generator(family, folder)
    place(generator.eval().requires_grad_(False), device)
    place(vae, device)
    critic = read_critic(settings.data or FOLDER / "critic", device)
    count = detector_counter(critic)
    batch_size = settings.batch_size or BATCH_SIZE
    tried = right_ones = 0

    def batch(rng: np.random.Generator, seeds: torch.Generator) -> tuple[Tensor, Tensor, list[str]]:
        """Noise, latents and captions of those of a batch that have the right count."""
        _, drawn, asked = sample_captioned(batch_size, rng)
        noise = torch.randn(batch_size, *LATENT_SHAPE, generator=seeds, device=device).half()
        tokens = generator.tokenize(drawn).to(device)
        with autocast(device):
            latents = integrate(generator, noise, tokens, steps=family.ode_steps, guidance_scale=family.guidance_scale)
        with torch.no_grad():
            images = (decode(vae, part).clamp(0, 1) for part in latents.split(DECODED_AT_ONCE))
            counts = torch.cat([count(part, [critic.threshold])[0] for part in images])
        right = right_counts(torch.from_numpy(asked).to(device), counts) & latents.isfinite().all((1, 2, 3))
        captions = [text for text, keep in zip(drawn, right.tolist(), strict=True) if keep]
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
        finally:  # also where the user stops: what was made is kept
            if done > begun_with:
                noise, latents = torch.cat([rows[0] for rows in kept]), torch.cat([rows[1] for rows in kept])
                captions = [caption for _, _, some in kept for caption in some]
                write_shard(out, number, noise, latents, captions, settings.asked)
                save_grid(vae, latents[:32].float(), out / f"sample-{number:05d}.png")


def pairs(settings: StageSettings) -> None:
    """Make the U-Net teacher's pairs; `init` is the teacher's pipeline folder, `data` the critic's folder.

    A later run in the same folder adds pairs of the same teacher, whose copy lies there. `seconds` and `iterations`,
    which are batches, bound all of them.
    """
    _pairs(FAMILIES["unet"], settings)


def pixart_pairs(settings: StageSettings) -> None:
    """Make the PixArt teacher's pairs; as `pairs`, for the other family."""
    _pairs(FAMILIES["pixart"], settings)
