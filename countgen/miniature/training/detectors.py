"""Training stages of the miniature's detectors: critic (YOLO), judge (FCOS), heatmap (CenterNet) and density."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from countgen.critics.detectors import centernet, fcos, yolo
from countgen.critics.networks import density as density_model
from countgen.critics.weights import Network, rebuild, write
from countgen.miniature.training.density_calibration import SCENES, calibrate
from countgen.miniature.training.detector_accuracy import Counter, density_counter, detector_counter, measure
from countgen.miniature.training.detector_data import Batch, Pool, SceneSource, attack, degrade
from countgen.miniature.training.detector_losses import Loss, density_loss, fcos_loss, heatmap_loss, yolo_loss
from countgen.miniature.training.generator import FAMILIES, MINIATURE, read_generator
from countgen.miniature.training.loop import StageSettings, data_seed, is_finished, train, update_average
from countgen.miniature.world import OBJECT_NAMES

WEIGHTS = "model.safetensors"
ACCURACY = "accuracy.json"
POOL_SIZE = 32768
ATTACKED_SHARE = 4
"""One image in so many of a batch is attacked."""
IMAGES_PER_REFRESH = {"cuda": 1280, "cpu": 80}
"""The number of training images between the replacements of one chunk of the pool, by device type."""
ATTACK_FROM = 0.6
"""The progress from which images are attacked; attacks on a hardly trained detector are of no use."""
MAX_GRAD_NORM = 10.0
TEST_SEED_OFFSET = 500_009
"""Added to the seed for the scenes a trained detector is measured on; no training reaches this iteration."""


def critic(settings: StageSettings) -> None:
    """Train the YOLO critic with images in the generator's style and with attacked images.

    `init` is a folder or file of weights, or `RANDOM`; the shipped critic's weights are the default.
    """
    torch.manual_seed(settings.seed)
    config = MINIATURE / "critic" / "yolo11n.yaml"
    network: Any
    if settings.fresh:
        network = yolo.build(config)[0]
    else:
        network = yolo.load(weights=_weights_of(settings.init or MINIATURE / "critic"), config=config).model
    network.requires_grad_(True)
    # This convolution is a fixed expectation over bins, not a weight to train.
    network.model[-1].dfl.requires_grad_(False)

    def counter(average: Any) -> Counter:
        found = yolo.YoloCritic(average, OBJECT_NAMES, name="yolo", image_size=128, nms_iou=0.5)
        return detector_counter(found)

    _fit(settings, network, yolo_loss, counter, rate=3e-4, batch_size=96, sizes=(160,))
    shutil.copyfile(config, settings.out / config.name)


def judge(settings: StageSettings) -> None:
    """Train the FCOS judge without images of the generator, so that it is independent of the generator."""
    network = _start(settings, fcos.build)

    def counter(average: Any) -> Counter:
        return detector_counter(fcos.FCOSCritic(average, OBJECT_NAMES))

    _fit(settings, network, fcos_loss, counter, rate=1e-3, batch_size=40, styled=False, attacked=False)


def heatmap(settings: StageSettings) -> None:
    """Train the CenterNet-style detector with styled and attacked images, like the critic."""
    network = _start(settings, centernet.build)

    def counter(average: Any) -> Counter:
        return detector_counter(centernet.CenterNetCritic(average, OBJECT_NAMES))

    def loss(net: nn.Module) -> Loss:
        return heatmap_loss(net, settings.device)

    _fit(settings, network, loss, counter, rate=2e-3, batch_size=160, sizes=(112, 144, 160))


def density(settings: StageSettings) -> None:
    """Train and calibrate the density counter, without attacked images, because it is also used as a judge."""
    network = _start(settings, density_model.build)

    def loss(net: density_model.DensityCounter) -> Loss:
        return density_loss(net, len(OBJECT_NAMES), settings.device)

    def finish(average: Any) -> None:
        calibrate(average, min(SCENES, max(2, (settings.number or POOL_SIZE) // 64)))

    _fit(settings, network, loss, density_counter, rate=2e-3, batch_size=160, attacked=False, finish=finish)


def _start(settings: StageSettings, build: Callable[[int], Network]) -> Network:
    """Return the network with the weights in `init`, a folder or a file, or with random weights."""
    torch.manual_seed(settings.seed)
    if settings.init is None or settings.fresh:
        return build(len(OBJECT_NAMES))
    return rebuild(_weights_of(settings.init), build)[0]


def _weights_of(place: Path) -> Path:
    return place / WEIGHTS if place.is_dir() else place


def _fit(
    settings: StageSettings,
    network: nn.Module,
    make_loss: Callable[[Any], Loss],
    counter: Callable[[Any], Counter],
    *,
    rate: float,
    batch_size: int,
    sizes: tuple[int, ...] = (),
    styled: bool = True,
    attacked: bool = True,
    finish: Callable[[Any], object] | None = None,
) -> None:
    """Train, measure and export one detector.

    Args:
        settings: settings of the stage; `data` is the folder of the generator, `number` the size of the pool.
        network: network on the CPU, with its initial weights.
        make_loss: makes the loss of a network on its device.
        counter: makes the counter of the trained average.
        rate: default learning rate.
        batch_size: default number of images per step.
        sizes: other heights and widths that images are sometimes resized to.
        styled: whether a third of the images is in the generator's style.
        attacked: whether, late in training, a quarter of every batch is attacked along the detector's gradient.
        finish: called with the trained average before it is measured and exported.
    """
    device = settings.device
    if is_finished(settings, settings.out / ACCURACY):
        return
    folder = settings.data or FAMILIES["unet"].folder
    generator, vae = read_generator(FAMILIES["unet"], folder)
    generator, vae = generator.eval().requires_grad_(False).to(device), vae.to(device)
    # Channels-last memory format is twice as fast on a CPU.
    network = network.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    average = copy.deepcopy(network).eval().requires_grad_(False)
    style = generator if styled else None
    source = SceneSource(vae, style, data_seed(settings), device)
    pool = Pool(source, settings.number or POOL_SIZE)
    _save_sample(pool, settings.out)
    loss = make_loss(network)
    weights = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=settings.learning_rate or rate, weight_decay=0.01)
    number = settings.batch_size or batch_size
    refresh_every = max(1, IMAGES_PER_REFRESH[torch.device(device).type] // number)
    num_attacked = number // ATTACKED_SHARE if attacked else 0

    def step(iteration: int, progress: float) -> dict[str, Any]:
        if iteration % refresh_every == refresh_every - 1:
            pool.refresh()
        batch = pool.draw(number)
        if num_attacked and progress >= ATTACK_FROM:
            # Evaluation mode uses running statistics, as in inference, and does not update them with attacked images.
            network.eval()
            attacked_rows = attack(_rows(batch, num_attacked), vae, loss)
            network.train()
            batch = _replace(batch, attacked_rows)
        value = loss(degrade(batch, sizes))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        norm = nn.utils.clip_grad_norm_(weights, MAX_GRAD_NORM)
        optimizer.step()
        update_average(average, network, iteration, decay=0.998)
        return {"loss": value.detach(), "grad_norm": norm}

    train(settings, {"network": network}, [optimizer], step, ema={"network": average})
    settings.out.mkdir(parents=True, exist_ok=True)
    if finish is not None:
        finish(average)
    test_source = SceneSource(vae, style, settings.seed * 1_000_003 + TEST_SEED_OFFSET, device)
    per_kind = min(480, max(1, (settings.number or POOL_SIZE) // 64))
    accuracy = measure(counter(average), test_source, per_kind)
    write(settings.out / WEIGHTS, average.state_dict(), OBJECT_NAMES, accuracy["threshold"])
    (settings.out / ACCURACY).write_text(json.dumps(accuracy, indent=2) + "\n")
    print(json.dumps(accuracy), flush=True)


def _rows(batch: Batch, number: int) -> Batch:
    parts: list[Tensor] = [batch.images, batch.boxes, batch.labels, batch.present, batch.latents]
    return Batch(*(part[:number] for part in parts))


def _replace(batch: Batch, first: Batch) -> Batch:
    """Return the batch with the images of its first rows replaced; their labels are the same."""
    images = torch.cat([first.images, batch.images[len(first.images) :]])
    return Batch(images, batch.boxes, batch.labels, batch.present, batch.latents)


def _save_sample(pool: Pool, out: Path) -> None:
    """Save some of the training images for inspection."""
    from torchvision.utils import save_image

    out.mkdir(parents=True, exist_ok=True)
    save_image(pool.parts[0][:64].float().cpu() / 255, out / "pool.png", nrow=8)
