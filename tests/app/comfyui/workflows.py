"""The example workflows of the ComfyUI nodes."""

import json
from pathlib import Path
from typing import Any

import countgen

FOLDER = Path(countgen.__file__).parent / "app/comfyui/example_workflows"
NAMES = ("count-objects", "pick-the-right-count", "generate-with-the-right-count", "count-gate")


def workflow(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text())


def prompt_of(workflow: dict[str, Any]) -> dict[str, Any]:
    """Return a workflow in the form that ComfyUI's server executes, as its page sends it."""
    links, prompt = {link[0]: link for link in workflow["links"]}, {}
    for node in workflow["nodes"]:
        values = iter([value for value in node["widgets_values"] if value != "fixed"])  # control after generate
        inputs = {}
        for socket in node["inputs"]:
            if socket["link"] is not None:
                _, source, output, *_ = links[socket["link"]]
                inputs[socket["name"]] = [str(source), output]
            elif "widget" in socket:
                inputs[socket["name"]] = next(values)
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt
