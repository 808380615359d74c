"""Critics by file name, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from countgen import critics, miniature
from countgen.benchmarks.miniature.world import OBJECTS_FOLDER
from countgen.models import Detectors

pytestmark = pytest.mark.core


def test_every_file_of_the_folder_is_a_critic_and_a_wrong_name_says_which_there_are() -> None:
    folder = Path(critics.__file__).parent / "detectors"
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert set(critics.available()) == files
    assert {"yolo", "owl", "grounding_dino", "detr", "torchvision", "density"} <= files
    with pytest.raises(ValueError, match=r"unknown critic 'yollo'. Did you mean yolo.* Available: .*yolo_world"):
        critics.load("yollo")


@pytest.mark.parametrize("name", ["os", "../registry", "__init__", "countgen.critics.base", "yolo.py", ""])
def test_a_name_can_never_load_another_module(name: str) -> None:
    before = set(sys.modules)
    with pytest.raises(ValueError, match="unknown critic"):
        critics.load(name)
    assert set(sys.modules) == before


def test_critics_import_no_detector_library_and_count_without_diffusers() -> None:
    libraries = ("ultralytics", "transformers", "torchvision", "inflect", "PIL", "huggingface_hub", "countgen.models")
    program = f"""
import sys
sys.modules["diffusers"] = None
import countgen.critics
assert [name for name in {libraries} if name in sys.modules] == []
from PIL import Image
canvas = Image.new("RGB", (128, 128), "lightgrey")
apple = Image.open({str(OBJECTS_FOLDER / "apple_noto.png")!r}).convert("RGBA").resize((40, 40))
for place in ((10, 10), (70, 20), (40, 75)):
    canvas.paste(apple, place, apple)
weights = {str(miniature.FOLDER / "heatmap" / "model.safetensors")!r}
assert countgen.critics.load("centernet", weights=weights).count(canvas, "apples") == 3
assert "ultralytics" not in sys.modules
assert "transformers" not in sys.modules
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_the_critic_steers_and_the_judge_counts_and_not_the_other_way_round() -> None:
    chosen = Detectors("miniature", (), "miniature-heatmap", "miniature-fcos", lambda choice, missing: None)
    (critic,), judge = chosen.load("cpu", trust_checkpoint=False)
    assert (critic.name, critic.families) == ("miniature-heatmap", {"centernet"})
    assert judge is not None
    assert (judge.name, judge.families) == ("miniature-fcos", {"fcos"})
