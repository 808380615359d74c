"""Run a TensorFlow.js graph model node by node, as slow and plain as its format, to compare a port with."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, leaky_relu, max_pool2d, pad


def run(graph: dict[str, Any], constants: dict[str, np.ndarray], image: Tensor, wanted: list[str]) -> list[Tensor]:
    """Values of the nodes named `wanted`, "name" or "name:output", for one input, in the input's dtype."""
    nodes = graph["modelTopology"]["node"]
    needed = {name.partition(":")[0] for name in wanted}
    for node in reversed(nodes):
        if node["name"] in needed:
            needed |= {name.partition(":")[0] for name in node.get("input", [])}
    values: dict[str, list[Tensor]] = {}
    for node in nodes:
        if node["name"] not in needed:
            continue
        inputs = []
        for name in node.get("input", []):
            source, _, output = name.partition(":")
            inputs.append(values[source][int(output or 0)])
        if node["op"] == "Const":
            constant = torch.from_numpy(constants[node["name"]].copy())
            values[node["name"]] = [constant.to(image.dtype) if constant.is_floating_point() else constant]
        else:
            values[node["name"]] = computed(node, inputs, image)
    return [values[name.partition(":")[0]][int(name.partition(":")[2] or 0)] for name in wanted]


def computed(node: dict[str, Any], inputs: list[Tensor], image: Tensor) -> list[Tensor]:
    attributes = node.get("attr", {})
    match node["op"]:
        case "Placeholder":
            return [image]
        case "Identity":
            return inputs
        case "Add" | "AddV2":
            return [inputs[0] + inputs[1]]
        case "Sigmoid":
            return [inputs[0].sigmoid()]
        case "LeakyRelu":
            return [leaky_relu(inputs[0], attributes["alpha"]["f"])]
        case "Transpose":
            return [inputs[0].permute(inputs[1].tolist())]
        case "Reshape":
            return [inputs[0].reshape(inputs[1].tolist())]
        case "ConcatV2":
            return [torch.cat(inputs[:-1], int(inputs[-1]))]
        case "SplitV":
            return list(inputs[0].split(inputs[1].tolist(), int(inputs[2])))
        case "Pad" | "PadV2":
            around = [side for pair in reversed(inputs[1].tolist()) for side in pair]
            return [pad(inputs[0], around, value=float(inputs[2]) if len(inputs) > 2 else 0.0)]
        case "SparseToDense":
            places, shape, given, rest = inputs
            dense = torch.full(shape.tolist(), int(rest), dtype=rest.dtype)
            assert places.numel() == given.numel() == 0, "this graph's are empty"
            return [dense]
        case "Conv2D":
            assert text(attributes["padding"]) == "VALID"
            kernel = inputs[1].permute(3, 2, 0, 1)
            return [channels_last(conv2d(channels_first(inputs[0]), kernel, stride=strides(attributes)))]
        case "MaxPool":
            assert text(attributes["padding"]) == "VALID"
            size = [int(number) for number in attributes["ksize"]["list"]["i"][1:3]]
            return [channels_last(max_pool2d(channels_first(inputs[0]), size, strides(attributes)))]
        case "ResizeBilinear":
            assert attributes["half_pixel_centers"]["b"]
            size = inputs[1].tolist()
            return [channels_last(interpolate(channels_first(inputs[0]), size, mode="bilinear", align_corners=False))]
    raise ValueError(f"no rule for {node['op']}")


def text(attribute: dict[str, str]) -> str:
    return base64.b64decode(attribute["s"]).decode()


def strides(attributes: dict[str, Any]) -> list[int]:
    assert text(attributes["data_format"]) == "NHWC"
    return [int(number) for number in attributes["strides"]["list"]["i"][1:3]]


def channels_first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


def channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def constants_of(graph: dict[str, Any], weights: bytes) -> dict[str, np.ndarray]:
    """Return the constants of a graph by name, as stored: float16 or int32."""
    constants, begin = {}, 0
    for group in graph["weightsManifest"]:
        for entry in group["weights"]:
            dtype = np.dtype(entry.get("quantization", entry)["dtype"]).newbyteorder("<")
            size = math.prod(entry["shape"])
            constants[entry["name"]] = np.frombuffer(weights, dtype, size, begin).reshape(entry["shape"])
            begin += size * dtype.itemsize
    assert begin == len(weights)
    return constants


def convolution_constants(graph: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the names of kernel and bias of each convolution of the graph, in the order of their numbers."""
    nodes = graph["modelTopology"]["node"]
    biases = {node["input"][0]: node["input"][1] for node in nodes if node["op"] == "Add"}
    named = [
        (_number(node["name"]), node["input"][1], biases[node["name"]]) for node in nodes if node["op"] == "Conv2D"
    ]
    return [(kernel, bias) for _, kernel, bias in sorted(named)]


def _number(name: str) -> int:
    """Return the number in "PartitionedCall/convolution_12"; the first convolution has none."""
    return int(name.rpartition("_")[2]) if "_" in name else 0
