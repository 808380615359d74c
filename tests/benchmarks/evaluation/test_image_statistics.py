"""Image statistics have closed forms on simple images, and flag what a method spoils."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from countgen.benchmarks.evaluation.image_statistics import image_statistics
from countgen.benchmarks.evaluation.report.findings import findings
from countgen.benchmarks.evaluation.report.judge_tables import FLAG, image_quality_table, quality_warnings
from countgen.benchmarks.evaluation.report.reported_run import ReportedRun
from tests.benchmarks.evaluation.made_records import record


def test_simple_images_have_the_statistics_of_their_closed_forms() -> None:
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    image[:, 32:] = 255
    found = image_statistics(image)
    assert (found.dark, found.blown) == (0.5, 0.5)
    assert found.colour_entropy == pytest.approx(1.0)
    assert found.edges == 2 / 64
    # The Laplacian is 1 in one column of 64, and -1 in the next.
    assert found.sharpness == pytest.approx(2 / 64)
    ramp = np.repeat(np.arange(0, 256, 4, dtype=np.uint8)[None, :, None], 64, 0).repeat(3, 2)
    flat = image_statistics(ramp)
    assert flat.edges == 0
    assert flat.sharpness < 1e-4
    assert flat.colour_entropy == pytest.approx(3.0)
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    assert image_statistics(noise).colour_entropy == pytest.approx(9, abs=0.01)


@pytest.fixture
def run(tmp_path: Path) -> ReportedRun:
    """Plain images of noise; "dim" darkens them by a third of a level, "black" makes most of each black."""
    rng = np.random.default_rng(1)
    records = []
    (tmp_path / "images").mkdir()
    for seed in range(8):
        plain = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) // rng.integers(1, 4)
        spoilt = plain * (rng.random((32, 32, 1)) < 0.1)
        for method, image in (("plain", plain), ("dim", plain - (plain > 0)), ("black", spoilt)):
            name = f"images/{method}{seed}.png"
            Image.fromarray(image.astype(np.uint8)).save(tmp_path / name)
            before = f"images/plain{seed}.png"
            records.append(record(method, seed, image=name, before=before, key=f"{method}{seed}"))
    return ReportedRun("made", {}, tuple(records), {one.key: tmp_path for one in records})


def test_a_method_that_spoils_images_is_flagged_and_one_that_does_not_is_not(run: ReportedRun) -> None:
    for name, content in (("dim0", b""), ("dim1", b"no image")):  # they are left out
        run.folders["plain0"].joinpath(f"images/{name}.png").write_bytes(content)
    (section,) = findings(run)
    plain, dim, black = (method.image_quality for method in section.methods)
    assert plain is None
    assert dim is not None
    assert black is not None
    assert (dim.images, black.images, dim.flagged) == (6, 8, ())
    assert {"dark", "colour_entropy"} <= set(black.flagged)
    assert black.shifts["dark"].change > 0.8
    (table,) = image_quality_table(section)
    assert table.header == ("", "dim", "black")
    cells = {row[0]: row[1:] for row in table.rows}
    assert [FLAG in cell for cell in cells["dark"]] == [False, True]
    (warning,) = quality_warnings(section)
    assert warning.startswith(f"{FLAG} black moves dark, ")
