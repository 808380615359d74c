"""Critics by file name, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from countgen import critics, miniature
from countgen.benchmarks.miniature.world import OBJECTS_FOLDER

DETECTOR_LIBRARIES = ("ultralytics", "transformers", "torchvision", "diffusers", "inflect", "PIL", "countgen.models")


def test_every_file_of_the_folder_is_a_critic_and_can_be_named() -> None:
    folder = Path(critics.__file__).parent / "detectors"
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert set(critics.available()) == files
    assert {"yolo", "owl", "grounding_dino", "detr", "torchvision", "density"} <= files


def test_a_wrong_name_says_what_is_near_and_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"unknown critic 'yollo'. Did you mean yolo.* Available: .*yolo_world"):
        critics.load("yollo")


@pytest.mark.parametrize("name", ["os", "../registry", "__init__", "countgen.critics.base", "yolo.py", ""])
def test_a_name_can_never_load_another_module(name: str) -> None:
    before = set(sys.modules)
    with pytest.raises(ValueError, match="unknown critic"):
        critics.load(name)
    assert set(sys.modules) == before


def run(program: str) -> str:
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_importing_critics_imports_no_detector_library() -> None:
    program = f"import sys, countgen.critics; print([name for name in {DETECTOR_LIBRARIES} if name in sys.modules])"
    assert run(program) == "[]"


@pytest.mark.slow
def test_critics_count_a_picture_without_diffusers() -> None:
    options = miniature.DETECTORS["miniature-yolo"].options
    arguments = {key: str(value) if isinstance(value, Path) else value for key, value in options.items()}
    picture = OBJECTS_FOLDER / "apple_noto.png"
    program = f"""
import sys
sys.modules["diffusers"] = None
from PIL import Image
from countgen.critics import load
canvas = Image.new("RGB", (128, 128), "lightgrey")
apple = Image.open({str(picture)!r}).convert("RGBA").resize((40, 40))
for place in ((10, 10), (70, 20), (40, 75)):
    canvas.paste(apple, place, apple)
print(load("yolo", **{arguments!r}).count(canvas, "apples"))
"""
    assert run(program) == "3"
