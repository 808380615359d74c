"""Moves of an edit without a gradient: patches of the latents are copied and replaced, as a detector's boxes say."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from countgen.critics import Critic
from countgen.prompts import Target

Patch = tuple[slice, slice]
"""Rows and columns of the latents."""


class PatchMoves:
    """Random moves of an image's latents, each of which may correct its counts.

    An object is added by copying the patch of one of the more certain objects to an empty place. An object is removed
    by replacing the patch of one of the least certain with that of an empty place or with fresh noise; if an object of
    another class is missing, that one takes its place. A move adds and removes all objects that the counts ask for.

    Args:
        detector: a critic with boxes.
        targets: of the image.
        image: RGB float (3, H, W) in [0, 1].
        latents: float (C, h, w), from which it is rendered.
        generator: on the CPU; it determines the moves.

    Attributes:
        missing: objects that the image lacks, by target; negative if there are too many.
    """

    def __init__(
        self, detector: Critic, targets: Sequence[Target], image: Tensor, latents: Tensor, generator: torch.Generator
    ) -> None:
        self._latents = latents
        self._generator = generator
        self._size = latents.shape[-2:]
        scale = [cells / pixels for cells, pixels in zip(self._size, image.shape[-2:], strict=True)]
        (by_name,) = detector.detect(image[None], [target.object_name for target in targets])
        self._objects = [
            [
                (_cells(top, bottom, scale[0], self._size[0]), _cells(left, right, scale[1], self._size[1]))
                for left, top, right, bottom in detections.boxes.tolist()
            ]
            for detections in by_name
        ]
        self.missing = [target.target_count - len(seen) for target, seen in zip(targets, self._objects, strict=True)]

    def batch(self, size: int) -> Tensor:
        """Return the latents after each of several moves, float (size, C, h, w)."""
        return torch.stack([self._moved() for _ in range(size)])

    def _moved(self) -> Tensor:
        moved = self._latents.clone()
        for (rows, columns), source in self._changes():
            if source is None:
                shape = moved[:, rows, columns].shape
                moved[:, rows, columns] = torch.randn(shape, generator=self._generator).to(moved)
            else:
                moved[:, rows, columns] = self._latents[:, *source]
        return moved

    def _changes(self) -> Iterator[tuple[Patch, Patch | None]]:
        """Yield the places that one move changes, and the patch that is copied there; None for fresh noise."""
        occupied = torch.zeros(self._size)
        for patch in chain.from_iterable(self._objects):
            occupied[patch] = 1
        leaving: list[Patch] = []
        for seen, missing in zip(self._objects, self.missing, strict=True):
            if missing < 0:
                leaving += self._some_of(seen[missing - 2 :], -missing)
        for patch in leaving:
            fresh = float(torch.rand((), generator=self._generator)) < 0.5
            yield patch, None if fresh else self._empty(occupied, _shape(patch))
        for patch in leaving:
            occupied[patch] = 0
        for seen, missing in zip(self._objects, self.missing, strict=True):
            for _ in range(missing):
                # Where there is nothing to copy, fresh noise may become an object.
                source = next(iter(self._some_of(seen[: len(seen) // 2 + 1], 1)), None)
                shape = _shape(source) if source else (max(1, self._size[0] // 4), max(1, self._size[1] // 4))
                place = self._empty(occupied, shape)
                occupied[place] = 1
                yield place, source

    def _some_of(self, patches: Sequence[Patch], number: int) -> list[Patch]:
        order = torch.randperm(len(patches), generator=self._generator).tolist()
        return [patches[index] for index in order[:number]]

    def _empty(self, occupied: Tensor, shape: tuple[int, int]) -> Patch:
        """Return one of the emptiest places of a shape."""
        fraction = avg_pool2d(occupied[None], shape, stride=1)[0]
        fraction += 0.05 * torch.rand(fraction.shape, generator=self._generator)
        top, left = divmod(int(fraction.argmin()), fraction.shape[1])
        return slice(top, top + shape[0]), slice(left, left + shape[1])


def _cells(first: float, last: float, scale: float, size: int) -> slice:
    """Return the cells that a side of a box lies in, at least one."""
    start = min(max(0, math.floor(first * scale)), size - 1)
    return slice(start, max(start + 1, min(math.ceil(last * scale), size)))


def _shape(patch: Patch) -> tuple[int, int]:
    return patch[0].stop - patch[0].start, patch[1].stop - patch[1].start
