"""Commands are timed as a new user types them."""

import signal
from pathlib import Path

import pytest

from countgen.benchmarks.speed import first_output, process

SLOW = "import time; print('begun', flush=True); time.sleep({})"


def test_a_command_has_its_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert first_output.main(["--commands=--help"]) == 0
    header, _, row, _, machine = capsys.readouterr().out.splitlines()
    assert row.startswith("| `countgen --help` | ")
    assert row.count("|") == header.count("|")
    assert "load average" in machine


def test_the_first_output_comes_before_the_end(tmp_path: Path) -> None:
    ran = process.run(("-c", SLOW.format(0.5)), {}, folder=tmp_path)
    assert ran.first_output < ran.seconds
    assert (ran.code, ran.output) == (0, "begun\n")
    assert ran.peak >= ran.private > 0


def test_the_peak_is_that_of_the_new_process() -> None:
    held = b"x" * (200 * 2**20)
    ran = process.run(("-c", SLOW.format(0.2)), {})
    assert 0 < ran.peak < len(held) / 2


def test_a_process_that_is_ready_or_over_its_limit_is_interrupted() -> None:
    ready = process.run(("-c", SLOW.format(60)), {}, ready=lambda: True)
    over = process.run(("-c", SLOW.format(60)), {}, limit=0.2)
    assert ready.code == over.code == -signal.SIGTERM
    assert ready.seconds < 30
    assert over.seconds > 0.2


def test_a_word_of_no_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        first_output.main(["--commands", "paint"])
    assert "no command contains any of 'paint'" in capsys.readouterr().err


def test_the_document_has_the_table_where_the_command_writes_it() -> None:
    found = first_output._MARKED.search(first_output.DOCUMENT.read_text("utf-8"))
    assert found is not None
    assert first_output.HEADER in found[0]
