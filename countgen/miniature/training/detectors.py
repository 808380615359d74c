"""The training stages of the miniature's detectors: critic (YOLO), judge (FCOS), heatmap (CenterNet) and density."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from countgen.miniature.training.density_calibration import SCENES, calibrate
from countgen.miniature.training.detector_accuracy import Counter, density_counter, detector_counter, measure
from countgen.miniature.training.detector_data import Batch, Pool, SceneSource, attack, degrade
from countgen.miniature.training.detector_losses import Loss, density_loss, fcos_loss, heatmap_loss, yolo_loss
from countgen.miniature.training.generator import FAMILIES, MINIATURE, read_generator
from countgen.miniature.training.loop import StageSettings, data_seed, is_finished, train, update_average
from countgen.miniature.world import OBJECT_NAMES
from critics.detectors import centernet, fcos, yolo
from critics.networks import density as density_model
from critics.weights import Network, rebuild, write

WEIGHTS = "model.safetensors"
ACCURACY = "accuracy.json"
POOL_SIZE = 32768
ATTACKED_SHARE = 4
SHOWN_BETWEEN = {"cuda": 1280, "cpu": 80}
"""Pictures a network sees between the replacements of one chunk of the pool."""
ATTACK_FROM = 0.6
"""Progress from which pictures are attacked: before that the detector has little worth attacking."""
MAX_GRAD_NORM = 10.0
FRESH = 500_009
"""Added to the seed for the scenes a trained detector is measured on; no training reaches this iteration."""


def critic(settings: StageSettings) -> None:
    """Fine-tune the YOLO critic, hardened against the generator's pictures and against optimised ones.

    `init` is a folder or file of weights, or `RANDOM`; without it the shipped critic's are.
    """
    torch.manual_seed(settings.seed)
    config = MINIATURE / "critic" / "yolo11n.yaml"
    network: Any
    if settings.fresh:
        network = yolo.build(config)[0]
    else:
        network = yolo.load(weights=_weights_of(settings.init or MINIATURE / "critic"), config=config).model
    network.requires_grad_(True)
    # The fixed expectation over box-edge bins is no weight.
    network.model[-1].dfl.requires_grad_(False)

    def counter(average: Any) -> Counter:
        found = yolo.YoloCritic(average, OBJECT_NAMES, name="yolo", image_size=128, nms_iou=0.5)
        return detector_counter(found)

    _fit(settings, network, yolo_loss, counter, rate=3e-4, batch_size=96, sizes=(160,))
    shutil.copyfile(config, settings.out / config.name)


def judge(settings: StageSettings) -> None:
    """Train the FCOS judge; it never sees the generator, so that it stays independent of it."""
    network = _start(settings, fcos.build)

    def counter(average: Any) -> Counter:
        return detector_counter(fcos.FCOSCritic(average, OBJECT_NAMES))

    _fit(settings, network, fcos_loss, counter, rate=1e-3, batch_size=40, styled=False, attacked=False)


def heatmap(settings: StageSettings) -> None:
    """Train the CenterNet-style detector, hardened as the critic is."""
    network = _start(settings, centernet.build)

    def counter(average: Any) -> Counter:
        return detector_counter(centernet.CenterNetCritic(average, OBJECT_NAMES))

    def loss(net: nn.Module) -> Loss:
        return heatmap_loss(net, settings.device)

    _fit(settings, network, loss, counter, rate=2e-3, batch_size=160, sizes=(112, 144, 160))


def density(settings: StageSettings) -> None:
    """Train the density counter on the generator's style, and on no attack: it judges too; then calibrate it."""
    network = _start(settings, density_model.build)

    def loss(net: density_model.DensityCounter) -> Loss:
        return density_loss(net, len(OBJECT_NAMES), settings.device)

    def finish(average: Any) -> None:
        calibrate(average, min(SCENES, max(2, (settings.number or POOL_SIZE) // 64)))

    _fit(settings, network, loss, density_counter, rate=2e-3, batch_size=160, attacked=False, finish=finish)


def _start(settings: StageSettings, build: Callable[[int], Network]) -> Network:
    """The network with the weights that `init` names, a folder or a file, or fresh ones."""
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
        settings: of the stage; `data` is the folder of the generator, `number` the size of the pool.
        network: on the CPU, with its starting weights.
        make_loss: from the network on its device.
        counter: from the trained average.
        rate: initial learning rate.
        batch_size: pictures a step.
        sizes: other heights and widths the pictures are sometimes shown at.
        styled: whether a third of the pictures is in the generator's style.
        attacked: whether, late in training, a quarter of every batch is attacked along the detector's gradient.
        finish: done to the trained average before it is measured and exported.
    """
    device = settings.device
    if is_finished(settings, settings.out / ACCURACY):
        return
    folder = settings.data or FAMILIES["unet"].folder
    generator, vae = read_generator(FAMILIES["unet"], folder)
    generator, vae = generator.eval().requires_grad_(False).to(device), vae.to(device)
    # Channels last: twice as fast on a CPU.
    network = network.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    average = copy.deepcopy(network).eval().requires_grad_(False)
    style = generator if styled else None
    source = SceneSource(vae, style, data_seed(settings), device)
    pool = Pool(source, settings.number or POOL_SIZE)
    _picture(pool, settings.out)
    loss = make_loss(network)
    weights = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=settings.learning_rate or rate, weight_decay=0.01)
    number = settings.batch_size or batch_size
    refresh_every = max(1, SHOWN_BETWEEN[torch.device(device).type] // number)
    worsened = number // ATTACKED_SHARE if attacked else 0

    def step(iteration: int, progress: float) -> dict[str, Any]:
        if iteration % refresh_every == refresh_every - 1:
            pool.refresh()
        batch = pool.draw(number)
        if worsened and progress >= ATTACK_FROM:
            # Running statistics, as when the detector is used; and they must not learn from the attack.
            network.eval()
            worse = attack(_rows(batch, worsened), vae, loss)
            network.train()
            batch = _replace(batch, worse)
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
    fresh = SceneSource(vae, style, settings.seed * 1_000_003 + FRESH, device)
    per_kind = min(480, max(1, (settings.number or POOL_SIZE) // 64))
    accuracy = measure(counter(average), fresh, per_kind)
    write(settings.out / WEIGHTS, average.state_dict(), OBJECT_NAMES, accuracy["threshold"])
    (settings.out / ACCURACY).write_text(json.dumps(accuracy, indent=2) + "\n")
    print(json.dumps(accuracy), flush=True)


def _rows(batch: Batch, number: int) -> Batch:
    parts: list[Tensor] = [batch.images, batch.boxes, batch.labels, batch.present, batch.latents]
    return Batch(*(part[:number] for part in parts))


def _replace(batch: Batch, first: Batch) -> Batch:
    """The batch with its first rows replaced by the attacked ones; their labels are the same."""
    images = torch.cat([first.images, batch.images[len(first.images) :]])
    return Batch(images, batch.boxes, batch.labels, batch.present, batch.latents)


def _picture(pool: Pool, out: Path) -> None:
    """Save some of the training pictures, for the eye."""
    from torchvision.utils import save_image

    out.mkdir(parents=True, exist_ok=True)
    save_image(pool.parts[0][:64].float().cpu() / 255, out / "pool.png", nrow=8)
