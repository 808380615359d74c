import os
import struct
from pathlib import Path

import pytest
from PIL import Image

from countgen.files.image_file import SUFFIXES, decode_image, open_image

pytestmark = pytest.mark.core

PIXELS = Image.effect_noise((8, 6), 80).convert("RGB")


def saved(path: Path, **options: object) -> Path:
    PIXELS.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_is_read_whatever_the_file_is_called(suffix: str, tmp_path: Path) -> None:
    path = saved(tmp_path / f"a{suffix}").rename(tmp_path / "photo")
    image = open_image(path)
    assert (image.mode, image.size) == ("RGB", (8, 6))
    if suffix in (".png", ".bmp", ".tif", ".tiff"):
        assert image.tobytes() == PIXELS.tobytes()


def test_images_are_turned_upright_and_truncated_ones_are_damaged(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(tmp_path / "a.jpg", exif=exif).read_bytes()
    assert decode_image(data).size == (6, 8)
    with pytest.raises(ValueError, match="the upload is a damaged image"):
        decode_image(data[: len(data) // 2], "the upload")


def test_a_postscript_program_named_png_is_not_run(tmp_path: Path) -> None:
    written = tmp_path / "written"
    program = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n({written}) (w) file closefile\nshowpage\n"
    (tmp_path / "photo.png").write_text(program)
    with pytest.raises(ValueError, match=r"photo\.png is not an image; accepted are PNG, JPEG"):
        open_image(tmp_path / "photo.png")
    assert not written.exists()


HUGE_BMP = b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 50_000, 50_000, 1, 24, 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not an image"),
        (b"\x89PNG\r\n\x1a\n", "is a damaged image"),
        (b"RIFF\0\0\0\0WEBP", "is a damaged image"),
        (b"II*\0\x08\0\0\0\0\0\0\0\0\0", "is a damaged image"),
        (b"GIF89a", "is a damaged image"),
        (HUGE_BMP, "has 50000 x 50000 pixels; at most"),
    ],
)
def test_other_content_is_an_error_that_names_the_file(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.png {reason}"):
        open_image(tmp_path / "a.png")


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for kind, path in {"pipe": tmp_path / "pipe.png", "folder": tmp_path, "device": Path("/dev/zero")}.items():
        with pytest.raises(ValueError, match=f"is a {kind}; give a regular file"):
            open_image(path)
