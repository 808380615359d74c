import errno
import json
import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from countgen.errors import ImageWriteError, RecipeError
from countgen.images import MAX_RECIPE_BYTES, check_writable, draw_boxes, read_png, read_recipe, save_png, to_pil

pytestmark = pytest.mark.core

RECIPE = {"prompt": "sept pommes é 🍎", "seed": 3, "counts": [7], "nested": {"loss": 0.25}}


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))


def test_a_tensor_is_rounded_to_the_nearest_of_256_values_and_clipped() -> None:
    image = torch.arange(256).float().div(255).view(1, 16, 16).expand(3, -1, -1)
    assert list(to_pil(image).tobytes()[::3]) == list(range(256))
    for offset in (-0.4, 0.4):
        assert to_pil(image + offset / 255).tobytes() == to_pil(image).tobytes()
    assert to_pil(torch.tensor([-1.0, 2.0, 0.0]).view(3, 1, 1)).getpixel((0, 0)) == (0, 255, 0)
    for shape in ((1, 3, 4, 4), (4, 4), (4, 4, 3)):
        with pytest.raises(ValueError, match=r"one RGB float image \(3, H, W\)"):
            to_pil(torch.zeros(shape))


def test_image_and_recipe_are_read_back_and_the_recipe_is_json_in_a_text_chunk(
    image: torch.Tensor, tmp_path: Path
) -> None:
    path = save_png(image, tmp_path / "a.png", RECIPE)
    pixels, recipe = read_png(path)
    assert (pixels.tobytes(), recipe) == (to_pil(image).tobytes(), RECIPE)
    with Image.open(path) as opened:
        assert json.loads(opened.info["countgen"]) == RECIPE
    large = {"latents": "A" * (MAX_RECIPE_BYTES - 100)}
    assert read_recipe(save_png(image, tmp_path / "b.png", large)) == large


@pytest.mark.parametrize("number", [None, errno.EPERM, errno.ENOTSUP])
def test_a_taken_name_is_never_overwritten_also_on_a_disk_without_hard_links(
    number: int | None, image: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(number, "no links here")

    if number is not None:
        monkeypatch.setattr(os, "link", no_links)
    paths = [save_png(image, tmp_path / "a.png", {"number": number}) for number in range(3)]
    assert [path.name for path in paths] == ["a.png", "a-2.png", "a-3.png"]
    assert [read_recipe(path)["number"] for path in paths] == [0, 1, 2]
    assert len(os.listdir(tmp_path)) == 3


def test_a_recipe_that_json_cannot_hold_is_an_error(image: torch.Tensor, tmp_path: Path) -> None:
    for recipe in ({"loss": float("nan")}, {"tensor": torch.zeros(1)}, {"a": "x" * MAX_RECIPE_BYTES}):
        with pytest.raises(RecipeError, match="recipe"):
            save_png(image, tmp_path / "a.png", recipe)
    assert os.listdir(tmp_path) == []


def test_a_folder_is_made_and_checked(image: torch.Tensor, tmp_path: Path) -> None:
    folder = check_writable(tmp_path / "a" / "b")
    assert folder.is_dir()
    assert os.listdir(folder) == []
    (tmp_path / "file").touch()
    with pytest.raises(ImageWriteError, match="cannot write to the folder"):
        check_writable(tmp_path / "file" / "b")
    with pytest.raises(ImageWriteError, match=r"cannot write .*nowhere"):
        save_png(image, tmp_path / "nowhere" / "a.png")


def test_files_without_a_recipe_and_with_another_text_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with pytest.raises(FileNotFoundError):
        read_recipe(path)
    for content in (b"", b"not an image", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"):
        path.write_bytes(content)
        with pytest.raises(RecipeError, match="cannot be read as a PNG"):
            read_recipe(path)
    Image.new("RGB", (4, 4)).save(path)
    with pytest.raises(RecipeError, match="holds no recipe"):
        read_recipe(path)
    for text, reason in (("{", "truncated"), ("x" * (MAX_RECIPE_BYTES + 1), "characters, at most")):
        info = PngInfo()
        info.add_text("countgen", text)
        Image.new("RGB", (4, 4)).save(path, pnginfo=info)
        with pytest.raises(RecipeError, match=reason):
            read_recipe(path)


def test_boxes_are_drawn_on_a_copy_and_grow_with_the_image() -> None:
    image = Image.new("RGB", (50, 40), "black")
    drawn = draw_boxes(image, torch.tensor([[20.0, 20.0, 30.0, 30.0]]), "1 apple", colour="#ff0000", enlarge=3)
    assert drawn.size == (150, 120)
    assert drawn.getpixel((60, 75)) == (255, 0, 0)
    assert drawn.getpixel((75, 75)) == (0, 0, 0)
    labelled = draw_boxes(image, [], "0 apples", colour="#ff0000")
    assert labelled.getpixel((0, 0)) == (255, 0, 0)
    assert image.getextrema() == ((0, 0), (0, 0), (0, 0))
