"""The ComfyUI nodes; with COMFYUI_PATH set to a checkout of ComfyUI they run on its own classes."""

import importlib
import inspect
import json
import os
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import countgen
from tests.app.comfyui import comfy_stand_in

JUDGE = "miniature-fcos"
WORKFLOW = Path(countgen.__file__).parent / "app/comfyui/example_workflows/right-count.json"


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
        if name.split(".")[0] in ("comfy", "comfy_api") or name.startswith("countgen.app.comfyui"):
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


def test_every_node_takes_what_its_schema_declares(nodes: ModuleType) -> None:
    node_list = returned(returned(nodes.comfy_entrypoint()).get_node_list())
    assert len({node.GET_SCHEMA().node_id for node in node_list}) == 3
    for node in node_list:
        parameters = inspect.signature(node.execute).parameters
        assert [socket.id for socket in node.GET_SCHEMA().inputs] == list(parameters)


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
    for index, count in enumerate(counts):
        if counts.count(count) == 1:
            with torch.inference_mode():
                image, picked, seed, right, text = nodes.PickRightCount.execute(
                    images, f"apple={count}", JUDGE, 100
                ).args
            assert (picked, seed, right) == (index, 100 + index, True)
            assert torch.equal(image, images[index : index + 1])
            assert text == f"{count} of {count} apples"
    far = max(counts) + 5
    _, picked, _, right, _ = nodes.PickRightCount.execute(images, f"apple={far}", JUDGE).args
    assert (counts[picked], right) == (max(counts), False)


def test_an_image_is_generated_with_progress(nodes: ModuleType, models: countgen.Models) -> None:
    comfy_stand_in.progress.clear()
    with torch.inference_mode():
        image, before, right, text, recipe = nodes.GenerateRightCount.execute(
            "a photo of two apples", "miniature", 0, "noise", 12
        ).args
    assert image.shape == before.shape == (1, 128, 128, 3)
    assert right == (judged(models, image) == [2])
    assert text.endswith("of 2 apples")
    assert json.loads(recipe)["prompt"] == "a photo of two apples"
    if "COMFYUI_PATH" not in os.environ:
        assert comfy_stand_in.progress == sorted(comfy_stand_in.progress) != []


def test_a_generation_ends_when_the_user_interrupts_it(nodes: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise comfy_stand_in.InterruptError

    monkeypatch.setattr(nodes.model_management, "throw_exception_if_processing_interrupted", interrupt)
    with pytest.raises(comfy_stand_in.InterruptError):
        nodes.GenerateRightCount.execute("a photo of nine apples", "miniature", 0, "auto", 400)


@pytest.mark.parametrize(
    ("node", "arguments", "helpful"),
    [
        ("CountObjects", (" , ", JUDGE), "apple,dog"),
        ("CountObjects", ("unicorn", JUDGE), "unicorn"),
        ("CountObjects", ("apple", "no-such-detector"), "no-such-detector"),
        ("PickRightCount", ("apples", JUDGE), "NAME=COUNT"),
        ("PickRightCount", ("apple=0", JUDGE), "1"),
    ],
)
def test_bad_input_is_explained(nodes: ModuleType, node: str, arguments: tuple[Any, ...], helpful: str) -> None:
    with pytest.raises(ValueError, match=helpful):
        getattr(nodes, node).execute(torch.zeros(1, 64, 64, 3), *arguments)


def test_the_example_workflow_fits_the_schemas(nodes: ModuleType) -> None:
    node_list = returned(nodes.CountgenExtension().get_node_list())
    schemas = {node.GET_SCHEMA().node_id: node.GET_SCHEMA() for node in node_list}
    used = [node for node in json.loads(WORKFLOW.read_text())["nodes"] if node["type"].startswith("Countgen")]
    assert {node["type"] for node in used} == set(schemas)
    for node in used:
        schema = schemas[node["type"]]
        assert [socket["name"] for socket in node["inputs"]] == [socket.id for socket in schema.inputs]
        assert [socket["name"] for socket in node["outputs"]] == [
            socket.id.replace("_", " ") for socket in schema.outputs
        ]
