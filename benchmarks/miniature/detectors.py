"""Training stages of the detectors: critic (YOLO), judge (FCOS), heatmap (CenterNet) and density."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from countgen.benchmarks.miniature.detector_accuracy import measure
from countgen.benchmarks.miniature.detector_data import Batch, Pool, SceneSource, attack, degrade
from countgen.benchmarks.miniature.detector_losses import Loss, density_loss, fcos_loss, heatmap_loss, yolo_loss
from countgen.benchmarks.miniature.generator import SHIPPED, place, read_generator
from countgen.benchmarks.miniature.training import StageSettings, train
from countgen.benchmarks.miniature.world import Scene, load_sprites, render
from countgen.critics import Critic, ultralytics_files
from countgen.critics.detectors import centernet, fcos
from countgen.critics.detectors import density as density_critic
from countgen.critics.detectors.yolo import YoloCritic
from countgen.critics.networks.density import DensityCounter
from countgen.critics.weights import read, write
from countgen.miniature import FOLDER
from countgen.miniature.world import BACKGROUNDS, OBJECT_NAMES

WEIGHTS = "model.safetensors"
ACCURACY = "accuracy.json"
POOL_SIZE = 32768
BATCH_SIZE = 40
ATTACKED_SHARE = 4
"""One image in so many of a batch is attacked."""
IMAGES_PER_REFRESH = {"cuda": 1280, "cpu": 80}
"""The number of training images between the replacements of one chunk of the pool, by device type."""
ATTACK_FROM = 0.6
"""The progress from which images are attacked; attacks on a hardly trained detector are of no use."""
TEST_SEED_OFFSET = 500_009
"""Added to the seed for the scenes a trained detector is measured on; no training reaches this iteration."""


def critic(settings: StageSettings) -> None:
    """Train the YOLO critic with images in the generator's style and with attacked images."""
    config = FOLDER / "critic" / "yolo11n.yaml"
    network: Any = ultralytics_files.build(config)[0].requires_grad_(True)
    # This convolution is a fixed expectation over bins, not a weight to train.
    network.model[-1].dfl.requires_grad_(False)
    as_critic = partial(YoloCritic, name="yolo", image_size=128, nms_iou=0.5)
    settings = replace(settings, batch_size=settings.batch_size or 64)
    _fit(settings, network, yolo_loss, as_critic, learning_rate=1e-3, sizes=(160,))
    shutil.copyfile(config, settings.out / config.name)


def judge(settings: StageSettings) -> None:
    """Train the FCOS judge without images of the generator, so that it is independent of the generator."""
    network = fcos.build(len(OBJECT_NAMES))
    _fit(settings, network, fcos_loss, fcos.FCOSCritic, learning_rate=1e-3, styled=False, attacked=False)


def heatmap(settings: StageSettings) -> None:
    """Train the CenterNet-style detector with styled and attacked images, like the critic."""
    network = centernet.CenterNet(len(OBJECT_NAMES))
    _fit(settings, network, heatmap_loss, centernet.CenterNetCritic, sizes=(112, 144, 160))


def density(settings: StageSettings) -> None:
    """Train and calibrate the density counter, without attacked images, because it is also used as a judge."""

    def as_critic(average: DensityCounter, object_names: Sequence[str]) -> Critic:
        calibrate(average, min(120, max(2, (settings.number or POOL_SIZE) // 64)))
        return density_critic.DensityCritic(average, object_names)

    _fit(settings, DensityCounter(len(OBJECT_NAMES)), density_loss, as_critic, attacked=False)


def _fit(
    settings: StageSettings,
    network: nn.Module,
    make_loss: Callable[[Any], Loss],
    as_critic: Callable[[Any, Sequence[str]], Critic],
    *,
    learning_rate: float = 2e-3,
    sizes: tuple[int, ...] = (),
    styled: bool = True,
    attacked: bool = True,
) -> None:
    """Train, measure and export one detector, from a network on the CPU with random weights or those of `init`.

    `data` is the folder of the generator, by default the shipped one. `sizes` are other heights and widths that images
    are sometimes resized to. `styled`: a third of the images is in the generator's style; `attacked`: late in training,
    a quarter of every batch is attacked along the detector's gradient.
    """
    device = settings.device
    if settings.init:
        network.load_state_dict(read(settings.init / WEIGHTS if settings.init.is_dir() else settings.init)[0])
    network = place(network, device).train()
    loss = make_loss(network)
    generator, vae = read_generator(settings.data or SHIPPED, device)
    style = generator if styled else None
    pool = Pool(SceneSource(vae, style, settings.data_seed(), device), settings.number or POOL_SIZE)
    number = settings.batch_size or BATCH_SIZE
    refresh_every = max(1, IMAGES_PER_REFRESH[torch.device(device).type] // number)

    def step(iteration: int, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        if iteration % refresh_every == refresh_every - 1:
            pool.refresh()
        batch = pool.draw(number)
        if attacked and progress >= ATTACK_FROM:
            # Evaluation mode uses running statistics, as in inference, and does not update them with attacked images.
            network.eval()
            share = max(1, number // ATTACKED_SHARE)
            few = attack(Batch(*(column[:share] for column in batch)), vae, loss)
            network.train()
            batch = batch._replace(images=torch.cat([few.images, batch.images[share:]]))
        return loss(degrade(batch, sizes)), {}

    average = train(
        settings, network, step, learning_rate=learning_rate, betas=(0.9, 0.999), max_grad_norm=10.0, decay=0.998
    )
    detector = as_critic(average, OBJECT_NAMES)
    test_source = SceneSource(vae, style, settings.seed * 1_000_003 + TEST_SEED_OFFSET, device)
    accuracy = measure(detector, test_source, min(480, max(1, (settings.number or POOL_SIZE) // 64)))
    write(settings.out / WEIGHTS, average.state_dict(), OBJECT_NAMES, accuracy["threshold"])
    (settings.out / ACCURACY).write_text(json.dumps(accuracy, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(accuracy), flush=True)


@torch.no_grad()
def calibrate(counter: DensityCounter, scenes: int) -> None:
    """Scale the maps of a density counter in evaluation mode, in place, so that each object's map sums to its count.

    The largest part of the network's error is a constant factor per object class. It is measured on rendered scenes of
    that class, with 1 to 12 objects, because with more it would also correct for hidden ones. The factor's logarithm is
    added to the bias of the last layer.
    """
    bias = counter.head.bias
    assert bias is not None
    rng, noise = np.random.default_rng(90_001), torch.Generator(bias.device).manual_seed(90_001)
    sprites = load_sprites(bias.device)
    counts = [1 + index % 12 for index in range(scenes)]
    factors = []
    for kind in range(len(OBJECT_NAMES)):
        rows = [Scene(((kind, count),), int(rng.integers(len(BACKGROUNDS)))) for count in counts]
        total = sum(float(counter(images)[:, kind].sum()) for images in render(rows, sprites, noise).images.split(60))
        factors.append(sum(counts) / max(total, 1.0))
    bias += torch.tensor(factors, device=bias.device).log()
