"""Critics by file name, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from countgen import critics, miniature
from countgen.benchmarks.miniature.world import OBJECTS_FOLDER

pytestmark = pytest.mark.core


def test_every_file_of_the_folder_is_a_critic_and_no_name_loads_another_module() -> None:
    folder = Path(critics.__file__).parent / "detectors"
    assert set(critics.available()) == {path.stem for path in folder.glob("*.py")} - {"__init__"}
    before = set(sys.modules)
    for name in ("os", "../registry", "__init__", "countgen.critics.base", "yolo.py", ""):
        with pytest.raises(ValueError, match="unknown critic"):
            critics.load(name)
    with pytest.raises(ValueError, match=r"unknown critic 'yollo'. Did you mean yolo.* Available: .*yolo_world"):
        critics.load("yollo")
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
assert [name for name in ("ultralytics", "transformers") if name in sys.modules] == []
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
