"""Overrides of the models' settings in a run: dtype, adapters, sampling."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from countgen.backbones import Backbone, lora
from countgen.number_slider import Calibration, load_calibration


@dataclass(frozen=True)
class Generation:
    """Overrides of the models' own settings; None keeps a model's own.

    Attributes:
        dtype: "float32", "float16" or "bfloat16".
        memory: "fast" or "low".
        loras: adapters, each as "FILE|ID[:WEIGHT]".
        scheduler: class name of a diffusers scheduler.
        num_inference_steps, guidance_scale, height, width: as of `countgen.load`.
        negative_prompt: of every image.
        calibration: file of the number slider's calibration.

    Raises:
        ValueError: an adapter that is not there, peft is missing, or a file that holds no calibration.
        OSError: a file that cannot be read.
    """

    dtype: str | None = None
    memory: str | None = None
    loras: tuple[str, ...] | None = None
    scheduler: str | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    height: int | None = None
    width: int | None = None
    negative_prompt: str | None = None
    calibration: str | None = None

    def __post_init__(self) -> None:
        _ = self._loras, self.loaded_calibration

    @property
    def asked_of_load(self) -> dict[str, Any]:
        """The arguments of `countgen.load`."""
        asked = {name: value for name, value in self._given.items() if name not in ("negative_prompt", "calibration")}
        return asked | ({"dtype": getattr(torch, self.dtype)} if self.dtype else {})

    @cached_property
    def loaded_calibration(self) -> Calibration | None:
        """The calibration in the file; None where no file is given."""
        return load_calibration(self.calibration) if self.calibration else None

    @property
    def recorded(self) -> dict[str, Any]:
        """What a run folder stores: what is given; of files their digests."""
        recorded = dict(self._given)
        if self.loras:
            recorded["loras"] = [one.recorded for one in self._loras]
        if self.calibration:
            recorded["calibration"] = hashlib.sha256(Path(self.calibration).read_bytes()).hexdigest()[:16]
        return recorded

    def check(self, backbone: Backbone) -> None:
        """Raise if a loaded model cannot be sampled in this way.

        Raises:
            ValueError: a negative prompt without guidance, or the calibration of another model.
        """
        backbone.check_negative_prompt(self.negative_prompt)
        if self.loaded_calibration is not None:
            self.loaded_calibration.check(backbone)

    @property
    def _given(self) -> dict[str, Any]:
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}

    @property
    def _loras(self) -> tuple[lora.Lora, ...]:
        return tuple(map(lora.parse, self.loras or ()))
