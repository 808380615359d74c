"""Convert NanoDet's published TensorFlow.js graph model to the safetensors file that the critic reads.

The half-precision weights are copied bit for bit; only their layout and their names change.

`python -m countgen.critics.networks.nanodet_conversion nanodet.json nanodet.bin model.safetensors`
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from countgen.critics.networks.nanodet import BINS, NanoDet
from countgen.critics.vocabulary import COCO_CLASSES
from countgen.critics.weights import write

THRESHOLD = 0.35
"""Probability above which a detection counts; docs/why-an-independent-judge.md has the counts it was chosen by."""


def tensors_of(graph: dict[str, Any], weights: bytes) -> dict[str, np.ndarray]:
    """Return the tensors of a TensorFlow.js graph model by name, as stored: float16 or int32.

    Raises:
        ValueError: the weights are longer or shorter than the graph says.
    """
    found, begin = {}, 0
    for group in graph["weightsManifest"]:
        for entry in group["weights"]:
            dtype = np.dtype(entry.get("quantization", entry)["dtype"]).newbyteorder("<")
            size = math.prod(entry["shape"])
            end = begin + size * dtype.itemsize
            if end > len(weights):
                raise ValueError(f"the weights end within {entry['name']}; give the .bin that belongs to this .json")
            found[entry["name"]] = np.frombuffer(weights, dtype, size, begin).reshape(entry["shape"])
            begin = end
    if begin != len(weights):
        raise ValueError(f"the graph describes {begin} bytes of weights, got {len(weights)}; give the .bin beside it")
    return found


def convolution_tensors(graph: dict[str, Any]) -> list[tuple[str, str]]:
    """Names of kernel and bias of each convolution of the graph, in the order of the convolutions' numbers."""
    nodes = graph["modelTopology"]["node"]
    biases = {node["input"][0]: node["input"][1] for node in nodes if node["op"] == "Add"}
    named = [
        (_number(node["name"]), node["input"][1], biases[node["name"]]) for node in nodes if node["op"] == "Conv2D"
    ]
    return [(kernel, bias) for _, kernel, bias in sorted(named)]


def state_dict(graph: dict[str, Any], weights: bytes) -> dict[str, Tensor]:
    """Return the state dict of `NanoDet`, float16.

    Raises:
        ValueError: the graph is not NanoDet's, or the weights are not the graph's.
    """
    tensors = tensors_of(graph, weights)
    pairs = convolution_tensors(graph)
    last = tensors[pairs[-1][1]]
    network = NanoDet(len(last) - 4 * BINS)
    # The network builds its convolutions in the order of the graph's numbers.
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    if len(names) != len(pairs):
        raise ValueError(f"expected NanoDet's {len(names)} convolutions, the graph has {len(pairs)}")
    state = {}
    for name, (kernel, bias) in zip(names, pairs, strict=True):
        # TensorFlow stores (height, width, inputs, outputs).
        state[f"{name}.weight"] = torch.from_numpy(tensors[kernel].transpose(3, 2, 0, 1).copy())
        state[f"{name}.bias"] = torch.from_numpy(tensors[bias].copy())
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"the graph's convolutions have other shapes than NanoDet's: {error}") from error
    return state


def main(words: Sequence[str] | None = None) -> None:
    """Write the safetensors file of a graph model."""
    parser = argparse.ArgumentParser(prog="python -m countgen.critics.networks.nanodet_conversion", description=__doc__)
    parser.add_argument("graph", type=Path, help="nanodet.json")
    parser.add_argument("weights", type=Path, help="nanodet.bin")
    parser.add_argument("out", type=Path, help="the .safetensors file to write")
    given = parser.parse_args(words)
    try:
        state = state_dict(json.loads(given.graph.read_bytes()), given.weights.read_bytes())
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"cannot convert {given.graph} and {given.weights}: {error}")
    write(given.out, state, COCO_CLASSES, THRESHOLD)


def _number(name: str) -> int:
    """Return the number in "PartitionedCall/convolution_12"; the first convolution has none."""
    return int(name.rpartition("_")[2]) if "_" in name else 0


if __name__ == "__main__":
    main()
