"""What every command promises: help without heavy imports, exit codes, one line for a fault outside, interruptions."""

import itertools
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch

from countgen import Run
from countgen import options as library_options
from countgen.app import generate
from countgen.app.arguments import Report
from countgen.app.cli import main
from countgen.app.commands import COMMANDS, command_of
from countgen.app.interrupts import held_interrupts
from countgen.app.options import Limits
from countgen.app.terminal import fitted
from countgen.benchmarks.evaluation.report.table import FORMATS
from countgen.critics import Critic
from countgen.files.printable import MAX_LINE
from tests.app.conftest import BUS, EVIL, Answer, errors_in

core = pytest.mark.core
HEAVY = ("torch", "diffusers", "transformers", "ultralytics", "inflect", "numpy", "PIL", "gradio", "matplotlib", "ray")


IMPORTED = f"""
import sys
from countgen.app.cli import main
for name in ("", "tokens", "generate", "edit", "count", "reproduce", "eval", "report", "label", "demo", "doctor"):
    print(main([*name.split(), "--help"]), *[module for module in {HEAVY} if module in sys.modules])
main(["count", {BUS!r}, "person"])
print(*[module for module in ("diffusers", "transformers", "ultralytics") if module in sys.modules])
"""


@core
def test_help_imports_nothing_heavy_and_the_embedded_detector_no_pipelines() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, timeout=60, check=True)
    lines = done.stdout.splitlines()
    assert lines.count("0") == 11
    assert "4 people" in " ".join(done.stdout.split())  # after a path, whose length decides where the line is broken
    assert lines[-1] == ""


@core
@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained_in_40_columns_and_in_plain_text(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = command_of(name)
    assert command.help
    assert [option.name for option in command.params if not option.help] == []
    if name not in ("demo", "serve"):
        assert "--json" in {spelling for option in command.params for spelling in option.opts}
    monkeypatch.setenv("COLUMNS", "40")
    assert main([*name.split(), "--help"]) == 0
    output = capsys.readouterr().out
    assert "\x1b" not in output
    assert max(map(len, output.splitlines())) <= 40


@core
def test_choices_are_those_of_the_library() -> None:
    assert get_args(get_type_hints(Limits)["until"]) == library_options.UNTIL
    assert get_args(get_args(get_type_hints(Report)["tables"])[0]) == tuple(FORMATS)
    shown = next(one for one in command_of("generate").params if one.name == "max_evaluations").show_default
    assert str(library_options.DEFAULT_MAX_EVALUATIONS) in shown


@core
def test_shells_complete_commands_options_and_choices(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_COUNTGEN_COMPLETE", "complete_bash")
    completions = {"": "generate", "tokens ": "learn", "generate --s": "--seed", "generate --method ": "search"}
    for words, completed in completions.items():
        monkeypatch.setenv("COMP_WORDS", f"countgen {words}")
        monkeypatch.setenv("COMP_CWORD", str(words.count(" ") + 1))
        with pytest.raises(SystemExit, match="0"):
            main([])
        assert completed in capsys.readouterr().out.split()


@core
def test_waiting_threads_sleep_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    main(["--version"])
    assert os.environ["OMP_WAIT_POLICY"] == "active"
    monkeypatch.delenv("OMP_WAIT_POLICY")
    main(["--version"])
    assert os.environ["OMP_WAIT_POLICY"] == "passive"


@core
def test_too_little_memory_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("countgen.load", lambda *_, **__: torch.empty(2**60))
    assert main(["generate", "two apples", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("countgen: error: there is not enough memory; a smaller --size")


@core
def test_text_is_escaped_and_a_path_is_not_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in ([EVIL], ["report", EVIL], ["generate", "two cats", EVIL]):
        assert main(words) == 2
        (error,) = capsys.readouterr().err.splitlines()
        assert error.isprintable()
        assert len(error) <= MAX_LINE + 50
    assert fitted(EVIL).isprintable()
    monkeypatch.setenv("COLUMNS", "20")
    assert fitted("seven apples ->", path="my own/an apple.png") == "seven apples ->\n  my own/an apple.png"


@core
def test_traceback_on_request(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="contains no number"):
        main(["--traceback", "generate", "apples", "--out", str(tmp_path)])


@pytest.mark.parametrize(
    ("words", "options", "codes"),
    [
        (["count", BUS, "person"], {"preexec_fn": lambda: os.close(1)}, (0,)),
        (["count", BUS, "person"], {"env": os.environ | {"PYTHONWARNINGS": "error"}}, (0, 2)),
        (["generate", "--help"], {"env": os.environ | {"PYTHONOPTIMIZE": "2"}}, (0,)),
    ],
    ids=["closed output", "warnings are errors", "no docstrings"],
)
def test_an_odd_environment_is_no_traceback(
    words: list[str], options: dict[str, Any], codes: tuple[int, ...], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "countgen", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path, **options)
    assert done.returncode in codes, done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in errors_in(done.stderr) if line.startswith("countgen")]
    assert len(errors) == (done.returncode == 2)


INTERRUPTED_IMPORT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background is started with it ignored
class CtrlC:
    def find_spec(self, name, *_):
        if name == sys.argv[1]: signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, CtrlC())
from countgen.app.cli import main
sys.exit(main(["generate", "one cat", "--quiet"]))
"""


@pytest.mark.parametrize("module", ["typer", "torch"])
def test_ctrl_c_while_libraries_are_imported_is_one_line(module: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", INTERRUPTED_IMPORT, module]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (130, "countgen: interrupted\n")


@pytest.mark.parametrize(
    "moment",
    [
        (Critic, "evaluate", 9, signal.SIGINT, signal.default_int_handler),
        (Critic, "evaluate", 9, signal.SIGTERM, signal.SIG_IGN),  # as in a shell's background job
        (Run, "result", 1, signal.SIGINT, signal.default_int_handler),
        (generate, "save_png", 1, signal.SIGTERM, signal.default_int_handler),
    ],
)
def test_interrupting_at_any_moment_writes_the_best_image_so_far(
    moment: tuple[Any, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    owner, name, call, sent, ctrl_c = moment
    real, calls = getattr(owner, name), itertools.count(1)

    def pressed(*arguments: Any, **options: Any) -> Any:
        if next(calls) == call:
            signal.raise_signal(sent)
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, pressed)
    usual = signal.signal(signal.SIGINT, ctrl_c)
    budget = ["--max-evaluations", "40", "--seed", "0-2", "--out", str(tmp_path)]
    code = main(["generate", "one cat", "--count", "cat=12", *budget])
    assert (code, signal.signal(signal.SIGINT, usual)) == (130, ctrl_c)
    assert re.match(r"seed 0: \d+ of 12 cats \(judge", capsys.readouterr().out)
    assert sorted(os.listdir(tmp_path)) == ["one-cat-0-after.png", "one-cat-0-before.png"]


def test_the_second_ctrl_c_does_not_wait() -> None:
    with held_interrupts() as pressed:
        signal.raise_signal(signal.SIGINT)
        assert pressed.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_doctor_says_what_is_healthy_and_what_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    code, output = answer("doctor")
    assert (code, output["healthy"]) == (0, True)
    assert {"python", "torch", "device", "miniature", "model cache"} <= {check["name"] for check in output["checks"]}
    (tmp_path / "file").touch()
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file"))
    code, output = answer("doctor")
    assert (code, output["healthy"]) == (1, False)
    assert [check["name"] for check in output["checks"] if check["ok"] is False] == ["model cache"]


def test_a_reader_that_goes_away_is_no_fault() -> None:
    command = f"{shlex.quote(sys.executable)} -m countgen tokens | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("141\n", "")
