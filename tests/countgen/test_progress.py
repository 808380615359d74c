"""What a run and the loading of models say while they go on."""

import io
import re
from contextlib import redirect_stderr

import diffusers
import pytest
import transformers

import countgen
from countgen.progress import counted_progress, followed, loading


class Terminal(io.StringIO):
    """Text that is written to a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_run_shows_counts_budget_and_time_on_a_terminal(
    models: countgen.Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with redirect_stderr(Terminal()) as terminal:
        result = countgen.generate("two cats", models, method="search", max_evaluations=30, progress=True)
    shown = terminal.getvalue()
    assert "seed 0: 0 evaluations" in shown
    assert f"of 2 cats (critic), {result.evaluations}/30 evaluations, loss " in shown
    assert re.search(r"loss \d+\.\d\d, [\d.:]+ (s|min) of [\d.:]+ (s|min)", shown)
    assert max(map(len, shown.split("\r"))) < 100


def test_off_a_terminal_a_line_is_printed_every_few_seconds(
    models: countgen.Models, capsys: pytest.CaptureFixture[str]
) -> None:
    run = countgen.Run("two cats", models, method="noise", max_seconds=60, max_evaluations=8)
    steps = list(followed(run, label="seed 0", targets=run.targets, limits=run.options.limits, every=0))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(steps)
    assert lines[0].startswith(f"seed 0: {steps[0].counts[0]} of 2 cats (critic), {steps[0].evaluations}/8 ")

    items = counted_progress(range(5), 25, done=20, has_failed=lambda item: item == 2, every=0)
    assert list(items) == [0, 1, 2, 3, 4]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    assert re.fullmatch(r"25 of 25 images, [\d.]+ s left, 1 failed", lines[-1])
    list(counted_progress(range(3), 3))
    assert capsys.readouterr().err == ""


def test_loading_says_how_long_it_took_and_shows_no_bar_of_a_library() -> None:
    logs = [library.utils.logging for library in (diffusers, transformers)]
    for log in logs:  # a worker of an evaluation, in another test, switches them off
        log.enable_progress_bar()
    with redirect_stderr(Terminal()) as terminal, loading("sdxl-turbo (6.9 GB, cached)", shown=True):
        assert not any(log.is_progress_bar_enabled() for log in logs)
    assert re.fullmatch(r"loading sdxl-turbo \(6\.9 GB, cached\) \.\.\. \d+\.\d s\n", terminal.getvalue())
    assert all(log.is_progress_bar_enabled() for log in logs)
    with redirect_stderr(Terminal()) as terminal, pytest.raises(OSError, match="gone"), loading("a model", shown=True):
        raise OSError("gone")
    assert re.fullmatch(r"loading a model \.\.\. \d+\.\d s\n", terminal.getvalue())
