"""The ComfyUI nodes; with COMFYUI_PATH set to a checkout of ComfyUI they run on its own classes."""

import importlib
import inspect
import json
import os
import sys
from collections.abc import Coroutine, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import countgen
from tests.app.comfyui import comfy_stand_in
from tests.app.comfyui.workflows import FOLDER, NAMES, prompt_of, workflow

JUDGE = "miniature-fcos"


@pytest.fixture(scope="module")
def nodes() -> Iterator[ModuleType]:
    before = dict(sys.modules)
    checkout = os.environ.get("COMFYUI_PATH")
    if checkout:
        sys.path.insert(0, checkout)
        importlib.import_module("comfy.cli_args").args.cpu = True
    else:
        comfy_stand_in.install()
    yield importlib.import_module("countgen.app.comfyui.nodes")
    if checkout:
        sys.path.remove(checkout)
    for name in set(sys.modules) - set(before):
        if name.split(".")[0] in ("comfy", "comfy_api", "comfy_execution") or name.startswith("countgen.app.comfyui"):
            del sys.modules[name]


@pytest.fixture(scope="module")
def images(models: countgen.Models) -> Tensor:
    """Plain images of three seeds as ComfyUI passes them, float (3, 128, 128, 3)."""
    embeds = models.backbone.encode_prompt("a photo of five apples")
    with torch.no_grad():
        rendered = models.backbone.render(models.backbone.initial_latents([0, 1, 2]), embeds, [0, 1, 2])
    return rendered.movedim(1, -1).contiguous()


def returned(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns that waits for nothing; another test may have left an event loop running."""
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    return stop.value.value


def judged(models: countgen.Models, images: Tensor) -> list[int]:
    return models.judge.counts(images.movedim(-1, 1), ["apple"])[:, 0].tolist()


def test_every_node_takes_what_its_schema_declares_and_has_a_workflow(nodes: ModuleType) -> None:
    node_list = returned(returned(nodes.comfy_entrypoint()).get_node_list())
    schemas = {node.GET_SCHEMA().node_id: node.GET_SCHEMA() for node in node_list}
    assert len(schemas) == 4
    for node in node_list:
        schema, parameters = node.GET_SCHEMA(), inspect.signature(node.execute).parameters
        assert [socket.id for socket in schema.inputs] == list(parameters)
        assert len({socket.id for socket in (*schema.inputs, *schema.outputs)}) == len(schema.inputs + schema.outputs)
        title = schema.display_name.lower().replace(" ", "-")
        used = [one for one in workflow(title)["nodes"] if one["type"].startswith("Countgen")]
        assert schema.node_id in {one["type"] for one in used}
        for one in used:
            declared = schemas[one["type"]]
            assert [socket["name"] for socket in one["inputs"]] == [socket.id for socket in declared.inputs]
            outputs = [socket.id.replace("_", " ") for socket in declared.outputs]
            assert [socket["name"] for socket in one["outputs"]] == outputs


@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_runs_and_its_image_holds_it(nodes: ModuleType, name: str) -> None:
    node_list = returned(returned(nodes.comfy_entrypoint()).get_node_list())
    by_id = {node.GET_SCHEMA().node_id: node for node in node_list}
    by_id["ImageBatch"] = SimpleNamespace(
        execute=lambda image1, image2: SimpleNamespace(args=[torch.cat([image1, image2])])
    )
    outputs, shown = {}, {}
    for key, node in prompt_of(workflow(name)).items():
        inputs = {
            name: outputs[value[0]][value[1]] if isinstance(value, list) else value
            for name, value in node["inputs"].items()
        }
        if node["class_type"] in by_id:
            outputs[key] = by_id[node["class_type"]].execute(**inputs).args
        else:
            shown[node["class_type"]] = inputs
    assert shown["SaveImage"]["images"].shape == (1, 128, 128, 3)
    with Image.open(FOLDER / f"{name}.png") as image:
        assert json.loads(image.info["workflow"]) == workflow(name)
        assert json.loads(image.info["prompt"]) == prompt_of(workflow(name))


def test_objects_are_counted_in_every_image(nodes: ModuleType, models: countgen.Models, images: Tensor) -> None:
    with torch.inference_mode():  # as ComfyUI runs nodes
        drawn, count, text, boxes = nodes.CountObjects.execute(images.clone(), "apple", JUDGE).args
    assert [len(of_image) for of_image in boxes] == judged(models, images)
    assert (count, text.splitlines()[0].split()[0]) == (len(boxes[0]), str(len(boxes[0])))
    assert drawn.shape == images.shape
    assert not torch.equal(drawn, images)
    assert all(0 <= box["x"] < 128 and box["width"] > 0 for of_image in boxes for box in of_image)


def test_the_image_with_the_right_count_is_picked(nodes: ModuleType, models: countgen.Models, images: Tensor) -> None:
    counts = judged(models, images)
    index = next(index for index, count in enumerate(counts) if counts.count(count) == 1)
    with torch.inference_mode():
        picked = nodes.PickRightCount.execute(images, f"apple={counts[index]}", JUDGE, 100).args
    assert picked[1:] == (index, 100 + index, True, f"{counts[index]} of {counts[index]} apples")
    assert torch.equal(picked[0], images[index : index + 1])
    _, nearest, _, right, _ = nodes.PickRightCount.execute(images, f"apple={max(counts) + 5}", JUDGE).args
    assert (counts[nearest], right) == (max(counts), False)


def test_a_gate_divides_a_batch_and_blocks_an_empty_branch(
    nodes: ModuleType, models: countgen.Models, images: Tensor
) -> None:
    counts = judged(models, images)
    target, prompt = max(counts), f"a photo of {max(counts)} apples"
    with torch.inference_mode():
        output = nodes.CountGate.execute(images, prompt, 0.5, JUDGE)
    accepted, rejected, number, text, drawn = output.args
    said = [float(line.rpartition(", ")[2].partition("%")[0]) / 100 for line in text.splitlines()]
    passed = [probability >= 0.5 for probability in said]
    assert 0 < number == sum(passed) < len(images)
    assert all(count == target for count, passes in zip(counts, passed, strict=True) if passes)
    assert torch.equal(accepted, images[torch.tensor(passed)])
    assert torch.equal(rejected, images[~torch.tensor(passed)])
    assert drawn.shape == images.shape
    assert len(output.ui.values) == len(images)
    blocked, everything, number, *_ = nodes.CountGate.execute(images, "", 0.5, JUDGE, "apple=40").args
    assert (type(blocked).__name__, number) == ("ExecutionBlocker", 0)
    assert torch.equal(everything, images)
    with pytest.raises(ValueError, match="contains no number"):
        nodes.CountGate.execute(images, "apples on a table", 0.5, JUDGE)


def test_an_image_is_generated_with_progress_until_the_user_interrupts(
    nodes: ModuleType, models: countgen.Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    comfy_stand_in.progress.clear()
    request = ("a photo of two apples", "miniature", 0, "noise", 12)
    with torch.inference_mode():
        image, before, right, text, recipe = nodes.GenerateRightCount.execute(*request).args
    assert image.shape == before.shape == (1, 128, 128, 3)
    assert right == (judged(models, image) == [2])
    assert text.endswith("of 2 apples")
    assert json.loads(recipe)["prompt"] == "a photo of two apples"
    if "COMFYUI_PATH" not in os.environ:
        assert comfy_stand_in.progress == sorted(comfy_stand_in.progress) != []

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(nodes.model_management, "throw_exception_if_processing_interrupted", interrupt)
    with pytest.raises(KeyboardInterrupt):
        nodes.GenerateRightCount.execute(*request)
