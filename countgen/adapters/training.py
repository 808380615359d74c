"""Training of a noise adapter through the frozen generator and the critics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from countgen.adapters.adapter import NoiseAdapter, check_no_loras, moved, network_inputs, prompt_vector
from countgen.adapters.network import AdapterNetwork, NetworkConfig
from countgen.adapters.settings import AdapterSettings
from countgen.backbones import PromptEmbeds
from countgen.backbones.registry import base_model
from countgen.learning.settings import FIRST_TRIAL_SEED
from countgen.learning.training import Training
from countgen.methods.step import Step
from countgen.models import Models
from countgen.prompts import Target
from countgen.prompts.number_words import number_word
from countgen.prompts.plurals import counted

TRIAL_IMAGES = 120


@dataclass
class AdapterTraining(Training):
    """A training run of an adapter: iterate over it for its `Step`s, and read `adapter` for the best so far.

    Args:
        models: models to train with; the critics are used, the judge is not.
        object_names: names of the object classes to train on, singular; the more, the better it generalises.
        counts: smallest and largest count to train on.
        settings: settings of the training.
        checkpoint: file written at the beginning and after every step; an existing one is resumed.
        licence: licence of the trained weights.

    Raises:
        ValueError: there are no objects, a detector does not know an object, or a setting or a count is out of range.
        AdapterFileError: the model has LoRAs.
        CheckpointError: the checkpoint is damaged or belongs to another training run.
    """

    models: Models
    object_names: Sequence[str]
    counts: tuple[int, int]
    settings: AdapterSettings = field(default_factory=AdapterSettings)
    checkpoint: Path | None = None
    licence: str = "Apache-2.0"

    def __post_init__(self) -> None:
        if not self.object_names:
            raise ValueError("an adapter is trained on at least one object class; give object_names")
        check_no_loras(self.models.backbone)
        smallest, largest = self.counts
        self.config = NetworkConfig(
            self.models.backbone.latent_shape,
            (smallest, largest),
            prompt_dim=prompt_vector(self._embeds("a photo")).shape[1] if self.settings.reads_prompt else 0,
            sees_sample=self.settings.sees_sample,
            channels=self.settings.channels,
        )
        self.targets = tuple(Target(name, n) for name in self.object_names for n in range(smallest, largest + 1))
        for target in self.targets:
            self.models.check((target,))
        with torch.random.fork_rng(devices=[]):  # equal seeds give equal initial weights
            torch.manual_seed(self.settings.seed)
            self._network = AdapterNetwork(self.config)
        self.state = self._resumed(self._network.state_dict())

    @property
    def _identity(self) -> str:
        critics = (critic.name for critic in self.models.critics)
        smallest, largest = self.counts
        base = base_model(self.models.backbone)
        facts = ("adapter", base, f"{smallest}-{largest}", *self.object_names, self.settings.config_hash, *critics)
        return "; ".join((*facts, *self._sampled))

    @property
    def adapter(self) -> NoiseAdapter:
        """The adapter with the best validation so far; an untrained one, which moves nothing, before the first."""
        backbone = self.models.backbone
        return NoiseAdapter(
            config=self.config,
            weights={name: value.detach().cpu().half() for name, value in self.state.best.items()},
            base_model=base_model(backbone),
            revision=backbone.preset.revision,
            object_names=tuple(self.object_names),
            critic=", ".join(critic.name for critic in self.models.critics),
            config_hash=self.settings.config_hash,
            accuracy=None,
            plain_accuracy=None,
            licence=self.licence,
        )

    @property
    def progress(self) -> float:
        """The spent fraction of the steps or of the seconds, whichever is larger."""
        settings = self.settings
        by_steps = self.state.step / settings.num_optimization_steps if settings.num_optimization_steps else 1.0
        return max(by_steps, self.state.seconds / settings.max_seconds if settings.max_seconds else 0.0)

    @property
    def _finished(self) -> bool:
        return self.progress >= 1

    @property
    def _learning_rate(self) -> float:
        settings = self.settings
        warmup = min(1.0, (self.state.step + 1) / settings.warmup_steps)
        return settings.learning_rate * warmup * max(settings.final_rate, 1 - self.progress)

    def _optimizer(self, trained: Sequence[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(trained, lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay)

    def _backward(self, parameters: Mapping[str, Tensor], index: int) -> Step:
        device = self.models.backbone.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.settings.bfloat16):
            step = super()._backward(parameters, index)
        torch.nn.utils.clip_grad_norm_(parameters.values(), self.settings.max_grad_norm)
        return step

    def _penalty(self, latents: Tensor, images: Tensor, target: Target, seeds: Sequence[int]) -> Tensor:
        """Return the weighted half of the squared distance between moved and original latents."""
        displacement = (latents - self.models.backbone.initial_latents(seeds)).flatten(1)
        return self.settings.displacement_weight * displacement.square().sum(1).mean() / 2

    def _render(
        self, parameters: Mapping[str, Tensor], template: str, target: Target, seeds: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Return the moved latents and images of a prompt with these weights of the network."""
        backbone = self.models.backbone
        embeds = self._embeds(prompt_of(template, target))
        latents = backbone.initial_latents(seeds)
        inputs = network_inputs(self.config, backbone, latents, target.target_count, embeds, seeds)
        # The state of the training is on the CPU, where checkpoints are read; gradient passes through the copy.
        weights = {name: value.to(latents.device) for name, value in parameters.items()}
        latents = moved(latents, torch.func.functional_call(self._network, weights, inputs))
        return latents, backbone.render(latents, embeds, seeds)

    @torch.no_grad()
    def _embeds(self, prompt: str) -> PromptEmbeds:
        return self.models.backbone.encode_prompt(prompt)


def prompt_of(template: str, target: Target) -> str:
    """Return the prompt of a template with the count as a word."""
    objects = counted(target.object_name, target.target_count)
    return template.format(number=number_word(target.target_count), objects=objects)


@torch.no_grad()
def try_adapter(models: Models, adapter: NoiseAdapter, num_images: int = TRIAL_IMAGES) -> tuple[float, float]:
    """Return the judge's accuracy with the adapter and without it, on the same seeds.

    The objects and counts are those that it was trained on, in turn; the seeds are not those of training or validation.
    """
    backbone = models.backbone
    smallest, largest = adapter.config.counts
    names, counts = adapter.object_names, range(smallest, largest + 1)
    right = {True: 0, False: 0}
    for k in range(num_images):
        turn, place = divmod(k, len(counts))
        # Every round of counts begins with another object, so that no count is always of one object.
        target = Target(names[(place + turn) % len(names)], counts[place])
        embeds = backbone.encode_prompt(prompt_of("a photo of {number} {objects}", target))
        seed = FIRST_TRIAL_SEED + k
        latents = backbone.initial_latents([seed])
        for with_adapter in right:
            start = adapter.move(backbone, latents, (target,), embeds, [seed]) if with_adapter else latents
            images = backbone.render(start, embeds, [seed])
            right[with_adapter] += int(models.judge.counts(images, [target.object_name])[0, 0]) == target.target_count
    return right[True] / num_images, right[False] / num_images
