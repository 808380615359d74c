"""The run folder of a stranger may hold links: no file outside it is written."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from countgen.app.cli import main
from countgen.benchmarks.evaluation.judgements import JUDGEMENTS
from countgen.benchmarks.evaluation.labels import Label, save_labels
from countgen.benchmarks.evaluation.run_folder import RunFolder
from countgen.files.json_lines import LineFile
from tests.benchmarks.evaluation.made_records import record, write_run
from tests.benchmarks.evaluation.test_run_folder import outcome
from tests.faults.crash_consistency import settings

pytestmark = pytest.mark.core

SECRET = "hf_oneLineWithoutNewline"


def evaluate(run: Path) -> None:
    with RunFolder(run, settings(4)) as folder:
        folder.keep(outcome(1))


def report(*arguments: str) -> Callable[[Path], object]:
    return lambda run: main(["--traceback", "report", str(run), *(word.format(run=run) for word in arguments)])


@pytest.mark.parametrize("link", [os.symlink, os.link])
@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("lock", evaluate),
        ("settings.json", evaluate),
        ("records.jsonl", evaluate),
        *(
            (name, lambda run: save_labels(run, [Label(record().key, "anna", (3,))]))
            for name in ("labels.jsonl", "labels.lock")
        ),
        ("judgements.jsonl", lambda run: LineFile(run, JUDGEMENTS)),
        *(("report.html", report("--out", f"{{run}}{name}")) for name in ("", "/report.html")),
    ],
)
def test_a_link_in_a_run_folder_is_an_error_and_its_target_stays(
    name: str, write: Callable[[Path], object], link: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    run, outside = tmp_path / "run", tmp_path / "outside.txt"
    if write is evaluate:
        run.mkdir()
    else:
        write_run(run, [record()])
    outside.write_text(SECRET)
    (run / name).unlink(missing_ok=True)
    link(outside, run / name)
    with pytest.raises(ValueError, match="not written to"):
        write(run)
    assert outside.read_text() == SECRET


def test_images_are_not_written_through_links(tmp_path: Path) -> None:
    run, photos = tmp_path / "run", tmp_path / "photos"
    run.mkdir()
    photos.mkdir()
    (photos / ".countgen-0.part").write_text("mine")
    (run / "images").symlink_to(photos)
    with pytest.raises(ValueError, match="images is a link"):
        evaluate(run)
    assert os.listdir(photos) == [".countgen-0.part"]
    (run / "images").unlink()
    with RunFolder(run, settings(4)) as folder:
        (run / "images" / f"{1:032x}.png").symlink_to(tmp_path / "outside.png")
        with pytest.raises(ValueError, match="a link"):
            folder.keep(outcome(1))
    assert not (tmp_path / "outside.png").exists()
