"""State that runs of the same models share: CUDA graphs and memory estimates."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from countgen.backbones.cuda_graphs import CUDAGraphs
from countgen.backbones.memory_estimate import MemoryEstimate


@dataclass
class ExecutionCache:
    """State between runs; `countgen.Models` holds one, so that the backbone holds none.

    Attributes:
        graphs: CUDA graphs of the forward and backward passes.
        fitting: keys of the batches that fit into the device's memory.
        estimates: memory estimates by the same keys.
    """

    graphs: CUDAGraphs = field(default_factory=CUDAGraphs)
    fitting: set[Hashable] = field(default_factory=set)
    estimates: dict[Hashable, MemoryEstimate] = field(default_factory=dict)
