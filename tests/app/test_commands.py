"""Tests that apply to every command."""

import argparse
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from countgen.app import learn_token
from countgen.app.cli import build_parser, main
from countgen.app.completion import SHELLS
from countgen.app.training_command import LOSSES
from countgen.critics import losses
from countgen.tokens.settings import LearnSettings
from tests.app.standard_error import errors_in

SILENT = {"completion", "demo"}
"""Commands without results for scripts."""


def parsers(parser: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield every command and sub-command with its parser."""
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, below in action.choices.items():
                yield from parsers(below, f"{name} {word}".strip())


PARSERS = dict(parsers(build_parser()))
LEAVES = {name: parser for name, parser in PARSERS.items() if not parser._subparsers}


def test_help_fits_into_40_columns(
    subtests: pytest.Subtests, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in PARSERS:
        with subtests.test(name=name):
            monkeypatch.setenv("COLUMNS", "40")
            monkeypatch.setenv("TERM", "dumb")
            with pytest.raises(SystemExit, match=r"^0$"):
                main([*name.split(), "--help"])
            output = capsys.readouterr().out
            assert "\x1b" not in output
            # An unbreakable path or group of options is on a line of its own.
            broad = [line.strip() for line in output.splitlines() if len(line) > 40]
            assert [line for line in broad if len(line.split()) > 2 and not re.fullmatch(r"[(\[].*[)\]]", line)] == []


def test_every_command_with_results_has_json() -> None:
    reporting = sorted(LEAVES.keys() - SILENT)
    assert [name for name in reporting if "--json" not in LEAVES[name]._option_string_actions] == []


def test_every_option_is_explained_and_none_is_abbreviated(subtests: pytest.Subtests) -> None:
    for name in PARSERS:
        with subtests.test(name=name):
            parser = PARSERS[name]
            assert parser.allow_abbrev is False
            assert parser.description
            assert [action.dest for action in parser._actions if not action.help and action.dest != "command"] == []


def test_the_help_of_training_names_the_defaults() -> None:
    assert set(LOSSES) == set(losses.LOSSES)
    shown = {name: text.rpartition("(")[2].rstrip(")") for name, _, _, text in learn_token.SETTINGS}
    assert shown == {name: str(getattr(LearnSettings(), name)) for name in shown}


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_names_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert {name for name in LEAVES if name.split()[0] not in script} == set()


def test_bash_completes_commands_options_and_choices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["completion", "bash"])
    (tmp_path / "completion").write_text(capsys.readouterr().out)

    def completed(*words: str) -> set[str]:
        script = (
            f"source completion; COMP_WORDS=(countgen {' '.join(words)} ''); COMP_CWORD={len(words) + 1}; "
            "_shtab_countgen; printf '%s\\n' \"${COMPREPLY[@]}\""
        )
        if words and words[-1] == "--":
            script = script.replace("-- ''", "--").replace(f"COMP_CWORD={len(words) + 1}", f"COMP_CWORD={len(words)}")
        done = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True
        )
        return set(done.stdout.split())

    assert {"generate", "reproduce", "doctor", "completion"} <= completed()
    assert {"--method", "--seed", "--json"} <= completed("generate", "--")
    assert {"plain", "search", "auto"} <= completed("generate", "--method")


@pytest.mark.parametrize("arguments", [["doctor"], ["tokens"], ["generate", "two cats", "--method", "plain"]])
def test_output_without_a_terminal_is_plain_text_and_no_bars(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "dumb")
    assert main(arguments) in (0, 1)
    printed = capfd.readouterr()
    assert printed.out
    assert not re.search(r"[\x1b\r]", printed.out)
    assert errors_in(printed.err) == []
    broad = [line for line in printed.out.splitlines() if len(line) > 40]
    assert [line for line in broad if len(line.split()) > 1] == []  # a path is not broken
