"""What critics take as an image."""

from pathlib import Path

import numpy as np
import pytest
import torch
import ultralytics
from PIL import Image

from countgen import critics
from countgen.critics.validation import to_batch

BUS = str(Path(ultralytics.__file__).parent / "assets" / "bus.jpg")


def test_a_path_a_pil_image_an_array_and_a_tensor_are_one_image() -> None:
    critic = critics.load("nanodet")
    with Image.open(BUS) as opened:
        array = np.asarray(opened.convert("RGB"))
    photo = Image.fromarray(array)
    ways = (BUS, Path(BUS), photo, array, array.astype(np.float32) / 255, torch.tensor(array).permute(2, 0, 1) / 255)
    for image in ways:
        assert critic.count(image, "person") == 4
        assert torch.equal(to_batch(image), to_batch(photo))
    (found,) = critic.detect(BUS, ["person"])[0]
    assert len(found) == 4


def test_a_photograph_is_turned_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 2), "red")
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    image.save(tmp_path / "a.jpg", exif=exif)
    assert to_batch(tmp_path / "a.jpg").shape == (1, 3, 4, 2)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((3, 8, 8), np.uint8), "expected an RGB array"),
        (np.zeros((8, 8, 3), np.int64), "expected an RGB array"),
        (7, "expected a path, a PIL image, a numpy array"),
    ],
)
def test_what_is_no_image_is_refused(image: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_batch(image)  # type: ignore[arg-type]
