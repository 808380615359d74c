"""Learning curves from the logs of trainings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.studies.miniature import curves


def write_log(folder: Path, records: list[dict[str, float]]) -> Path:
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def test_a_point_is_the_mean_of_the_logged_iterations_of_its_span(tmp_path: Path) -> None:
    log = [(1, 0.4, 0.2), (50, 0.2, 0.4), (51, 0.1, 0.1)]
    run = write_log(tmp_path / "run", [{"iteration": i, "latents": a, "features": b} for i, a, b in log])
    assert curves.curve(run) == {"iteration": [50, 51], "latents": [0.3, 0.1], "features": [0.3, 0.1]}


def test_iterations_without_these_losses_are_left_out(tmp_path: Path) -> None:
    run = write_log(
        tmp_path / "run", [{"iteration": 1, "latents": 0.4, "features": 0.2}, {"iteration": 4, "denoising": 0.1}]
    )
    assert curves.curve(run)["iteration"] == [1]


def test_runs_are_recorded_and_plotted_and_the_record_alone_gives_the_same_bytes(tmp_path: Path) -> None:
    runs = [
        f"{name}={write_log(tmp_path / name, [{'iteration': 1, 'latents': loss, 'features': loss}])}"
        for name, loss in (("first", 0.5), ("second", 0.25))
    ]
    places = ["--record", str(tmp_path / "record.json"), "--out", str(tmp_path / "plot.svg")]
    assert curves.main([*runs, *places]) == 0
    assert json.loads((tmp_path / "record.json").read_text())["second"]["latents"] == [0.25]
    plotted = (tmp_path / "plot.svg").read_bytes()
    assert b"first" in plotted
    assert b"second" in plotted
    assert curves.main(places) == 0
    assert (tmp_path / "plot.svg").read_bytes() == plotted


def test_the_committed_record_is_plotted(tmp_path: Path) -> None:
    assert curves.main(["--out", str(tmp_path / "plot.svg")]) == 0
    assert (tmp_path / "plot.svg").read_bytes().startswith(b"<?xml")


def test_bad_runs_end_with_one_line_and_leave_the_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = tmp_path / "record.json"
    record.write_text("{}")
    other = write_log(tmp_path / "other", [{"iteration": 1, "loss": 0.5}])
    for run, message in (
        ("nameless", "NAME=RUN_FOLDER"),
        (f"a={tmp_path / 'nowhere'}", "metrics.jsonl"),
        (f"a={other}", "no latents and features"),
    ):
        with pytest.raises(SystemExit) as ended:
            curves.main([run, "--record", str(record)])
        assert ended.value.code == 2
        assert message in capsys.readouterr().err
    assert record.read_text() == "{}"
