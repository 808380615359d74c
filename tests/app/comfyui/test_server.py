"""The example workflows on a ComfyUI server, whose checkout COMFYUI_PATH names."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import countgen
from tests.app.comfyui.workflows import NAMES, prompt_of, workflow

CHECKOUT = os.environ.get("COMFYUI_PATH")
pytestmark = pytest.mark.skipif(not CHECKOUT, reason="COMFYUI_PATH names no checkout of ComfyUI")
PATIENCE = 120
"""Seconds that a server may take to start, or to run a workflow."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("comfyui")
    shutil.copytree(Path(countgen.__file__).parent / "app/comfyui", folder / "custom_nodes/countgen")
    (folder / "input").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = [sys.executable, f"{CHECKOUT}/main.py", "--cpu", "--listen", "127.0.0.1", "--port", port]
    command += ["--base-directory", str(folder), "--database-url", "sqlite:///:memory:"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        url = f"http://127.0.0.1:{port}"
        waited_for(lambda: answer(f"{url}/system_stats"))
        yield url
        process.terminate()


def answer(url: str, body: Any = None) -> Any:
    """Return what a URL answers; nothing while no server listens."""
    request = urllib.request.Request(url, body and json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request) as response:
            return json.load(response)
    except ConnectionError:
        return None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ConnectionError):
            return None
        raise


def waited_for(get: Any) -> Any:
    end = time.monotonic() + PATIENCE
    while not (value := get()):
        assert time.monotonic() < end, "no answer of the server"
    return value


def executed(server: str, flow: dict[str, Any]) -> dict[str, Any]:
    """Run a workflow on the server, and return the outputs that it shows."""
    queued = answer(
        f"{server}/prompt", {"prompt": prompt_of(flow), "extra_data": {"extra_pnginfo": {"workflow": flow}}}
    )
    history = waited_for(lambda: answer(f"{server}/history/{queued['prompt_id']}"))[queued["prompt_id"]]
    assert history["status"]["status_str"] == "success", history["status"]
    return {flow["nodes"][int(key) - 1]["type"]: output for key, output in history["outputs"].items()}


@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_saves_an_image(server: str, name: str) -> None:
    assert len(executed(server, workflow(name))["SaveImage"]["images"]) == 1


def test_what_is_behind_an_empty_branch_of_the_gate_does_not_run(server: str) -> None:
    flow = workflow("count-gate")
    gate = next(node for node in flow["nodes"] if node["type"] == "CountgenCountGate")
    gate["widgets_values"][-1] = "apple=40"
    shown = executed(server, flow)
    assert "SaveImage" not in shown
    assert len(shown["PreviewImage"]["images"]) == len(shown["CountgenCountGate"]["images"]) == 2
