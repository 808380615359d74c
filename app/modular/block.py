"""A Modular block that runs text-to-image blocks with one seed after the other until the count is right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import torch
from diffusers import ConfigMixin
from diffusers.configuration_utils import FrozenDict, register_to_config
from diffusers.modular_pipelines import (
    ComponentSpec,
    InputParam,
    ModularPipelineBlocks,
    OutputParam,
    PipelineState,
    SequentialPipelineBlocks,
    StableDiffusionXLAutoBlocks,
)

from countgen.critics import Critic
from countgen.critics.validation import to_batch
from countgen.detector_choice import AUTO, counter
from countgen.methods import DEFAULT_SURE
from countgen.models import load_critic
from countgen.prompts import Target, parse, targets_from
from countgen.verification import Verdict, verify


class CountCritic(ConfigMixin):
    """The component that counts.

    Args:
        detectors: names as `countgen.models.load_critic` reads them, separated by commas; the first one counts, and all
            decide how probable a right count is. "auto" chooses one by what is counted.
    """

    config_name = "critic_config.json"

    @register_to_config
    def __init__(self, detectors: str = AUTO) -> None:
        pass

    def best(self, images: Iterable[Any], targets: Sequence[Target], device: torch.device) -> tuple[Verdict, Any]:
        """Return the verdict on the image that is right most probably, and the image: PIL, array or tensor."""
        names = [target.object_name for target in targets]
        wanted = counter(names) if self.config.detectors == AUTO else self.config.detectors
        critics = [_critic(name.strip(), str(device)) for name in wanted.split(",")]
        for critic in critics:
            critic.check_distinct(names)
        verdicts = [(verify(to_batch(image).to(device), critics, targets)[0], image) for image in images]
        return max(verdicts, key=lambda pair: pair[0].probability)


@lru_cache(maxsize=4)
def _critic(name: str, device: str) -> Critic:
    return load_critic(name, device)


class CountedGeneration(ModularPipelineBlocks):
    """Run text-to-image blocks until the count of the prompt is confirmed, or `max_images` are made.

    The prompt is encoded once: blocks up to the one that returns `prompt_embeds` run before the loop.

    Args:
        blocks: any that take `generator` and return `images`; those of Stable Diffusion XL by default.
    """

    _requirements = {"countgen": ">=0.1.0"}  # noqa: RUF012 - as diffusers declares it

    def __init__(self, blocks: SequentialPipelineBlocks | None = None) -> None:
        super().__init__()
        self.sub_blocks["text_to_image"] = blocks or StableDiffusionXLAutoBlocks().get_workflow("text2image")

    @property
    def _blocks(self) -> SequentialPipelineBlocks:
        return self.sub_blocks["text_to_image"]

    @property
    def model_name(self) -> str | None:
        """Model family of the blocks, by which diffusers chooses the pipeline class."""
        return self._blocks.model_name

    @property
    def description(self) -> str:
        """What the block does."""
        return "Generates images with one seed after the other until the prompt's number of objects is confirmed."

    @property
    def expected_components(self) -> list[ComponentSpec]:
        """The components of the blocks, and the critic."""
        critic = ComponentSpec(
            "critic", CountCritic, config=FrozenDict(detectors=AUTO), default_creation_method="from_config"
        )
        return [*self._blocks.expected_components, critic]

    @property
    def expected_configs(self) -> list[Any]:
        """Those of the blocks."""
        return self._blocks.expected_configs

    @property
    def inputs(self) -> list[InputParam]:
        """Those of the blocks without `generator`, and what is asked of the count."""
        own = [
            InputParam("prompt", type_hint=str, required=True, description="says how many of what"),
            InputParam("counts", type_hint=str, description="in place of the prompt's, such as apple=5,dog=2"),
            InputParam("seed", type_hint=int, default=0, description="of the first image; the next has seed + 1"),
            InputParam("max_images", type_hint=int, default=16, description="generated at most"),
            InputParam("sure", type_hint=float, default=DEFAULT_SURE, description="P(right) that ends the loop"),
        ]
        replaced = {"generator", *(param.name for param in own)}
        return [*own, *(param for param in self._blocks.inputs if param.name not in replaced)]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        """The images, and what the critic says of the best one."""
        return [
            OutputParam("images", type_hint=list, description="the best image"),
            OutputParam("counts_found", type_hint=dict, description="the critic's, by object"),
            OutputParam("probability", type_hint=float, description="that every count is right"),
            OutputParam("confirmed", type_hint=bool, description="the probability is at least `sure`"),
            OutputParam("image_seed", type_hint=int, description="of the image"),
            OutputParam("images_made", type_hint=int, description="until then"),
        ]

    @torch.no_grad()
    def __call__(self, components: Any, state: PipelineState) -> tuple[Any, PipelineState]:
        block_state = self.get_block_state(state)
        targets = targets_from(block_state.counts) if block_state.counts else parse(block_state.prompt)
        if block_state.max_images < 1:
            raise ValueError(f"max_images must be at least 1, got {block_state.max_images!r}")
        device = components._execution_device
        before, looped = self._divided()
        for block in before:
            components, state = block(components, state)
        best: tuple[Verdict, PipelineState] | tuple[()] = ()
        for made in range(1, block_state.max_images + 1):
            seed = block_state.seed + made - 1
            attempt = PipelineState(dict(state.values), {key: [*names] for key, names in state.kwargs_mapping.items()})
            attempt.set("image_seed", seed)
            attempt.set("generator", torch.Generator("cpu").manual_seed(seed))  # the same image on every device
            for block in looped:
                components, attempt = block(components, attempt)
            verdict, image = components.critic.best(attempt.get("images"), targets, device)
            attempt.set("images", [image])
            if not best or verdict.probability > best[0].probability:
                best = verdict, attempt
            if verdict.probability >= block_state.sure:
                break
        assert best
        verdict, state = best
        found = {target.object_name: count for target, count in zip(targets, verdict.counts, strict=True)}
        for name, value in {
            "counts_found": found,
            "probability": verdict.probability,
            "confirmed": verdict.probability >= block_state.sure,
            "images_made": made,
        }.items():
            state.set(name, value)
        return components, state

    def _divided(self) -> tuple[list[Any], list[Any]]:
        """Return the blocks that run once, which encode the prompt, and those that run for each seed."""
        blocks = list(self._blocks.sub_blocks.values())
        encoders = [index for index, block in enumerate(blocks) if "prompt_embeds" in block.intermediate_output_names]
        once = encoders[0] + 1 if encoders else 0
        return blocks[:once], blocks[once:]
