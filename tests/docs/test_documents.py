"""Run what the documents tell a reader to run, and check what they name."""

import argparse
import importlib.util
import inspect
import io
import pkgutil
import re
import shlex
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import yaml

import countgen
from countgen.app.cli import main
from countgen.app.commands import parse
from countgen.app.exit_codes import BAD_INPUT
from tests.docs.documents import DOCUMENTS, ROOT, blocks, commands, named_commands

SMALLER = {
    "eval": ["--limit", "1", "--max-evaluations", "4"],
    "generate": ["--max-evaluations", "8"],
    "edit": ["--max-evaluations", "8"],
    "tokens learn": ["--trial-images", "2"],
}
"""Options appended to commands, so that a test takes a second instead of minutes."""
FEWER = (re.compile(r"max_evaluations=\d+"), "max_evaluations=8")
"""The same for blocks of python."""

RUN = [document for document in DOCUMENTS if any(block.run for block in blocks(document))]


@pytest.mark.parametrize("document", RUN)
def test_everything_a_document_tells_to_run_runs(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__document__"}  # shared by all blocks of a document
    for block in blocks(document):
        if not block.run:
            continue
        where = f"{document}:{block.line}"
        if block.language == "python":
            with redirect_stdout(io.StringIO()):
                text = FEWER[0].sub(FEWER[1], block.text)
                exec(compile("\n" * (block.line - 1) + text, str(ROOT / document), "exec"), names)
            continue
        for program, *words in commands(block.text):
            if program != "countgen":
                continue
            code, output = run(words)
            # Exit code 1, a count that was not reached or pixels that differ, is a valid result.
            assert code in (0, 1), f"{where}: countgen {' '.join(words)}\n{output}"


def run(words: list[str]) -> tuple[int, str]:
    """Run `countgen` in this process; return its exit code and output."""
    output = io.StringIO()
    with redirect_stdout(output), redirect_stderr(output):
        try:
            return main([*words, *SMALLER.get(" ".join(words[:2]), SMALLER.get(words[0], ()))]), output.getvalue()
        except SystemExit as end:
            return int(end.code or 0), output.getvalue()


def test_every_file_a_document_links_is_there(subtests: pytest.Subtests) -> None:
    for document in DOCUMENTS:
        with subtests.test(document=document):
            text = (ROOT / document).read_text(encoding="utf-8")
            links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
            local = {link for link in links if not re.match(r"[a-z]+:", link)}
            assert {link for link in local if not (ROOT / document).parent.joinpath(link).exists()} == set()


def test_every_command_a_document_names_is_understood(
    subtests: pytest.Subtests, monkeypatch: pytest.MonkeyPatch
) -> None:
    parse_args = argparse.ArgumentParser.parse_args

    def parse_only(parser: argparse.ArgumentParser, *arguments: Any) -> None:
        parser.allow_abbrev = False  # a renamed option may begin as the old one
        parse_args(parser, *arguments)
        parser.exit()

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
    for command in sorted(set().union(*map(named_commands, DOCUMENTS))):
        with subtests.test(command=command):
            module, *words = shlex.split(command.removeprefix("python -m "))
            if module == "countgen":
                # A name in a sentence lacks what the command requires.
                assert parse(words if len(words) > 2 else [*words, "--help"]) != BAD_INPUT
                continue
            words = words or ["--help"]  # a name in a sentence
            run_command = main_of(module)
            if inspect.signature(run_command).parameters:
                with redirect_stdout(io.StringIO()), pytest.raises(SystemExit, match=r"^0$"):
                    run_command(words)
            else:
                assert words == ["--help"], "it takes no arguments"


def main_of(module: str) -> Callable[..., object]:
    """Return the `main` that `python -m MODULE` runs; a module without one takes no arguments."""
    if importlib.util.find_spec(module).submodule_search_locations:
        module += ".__main__"
    return getattr(importlib.import_module(module), "main", lambda: None)


def test_the_interface_page_holds_every_public_name(subtests: pytest.Subtests) -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^::: (\S+)$", page, re.MULTILINE))
    for module, members in re.findall(r"^::: (\S+)\n    options:\n      members: \[(.*)\]$", page, re.MULTILINE):
        named |= {f"{module}.{member}" for member in members.split(", ")}
    for name in sorted(named):
        with subtests.test(name=name):
            pkgutil.resolve_name(name)
    public = (getattr(countgen, name) for name in countgen.__all__)
    objects = [item for item in public if not inspect.ismodule(item) and item is not countgen.CountGenError]
    assert {f"{item.__module__}.{item.__qualname__}" for item in objects} - named == set()


@pytest.mark.parametrize(("document", "example"), [("add-a-backbone", "Example"), ("add-a-critic", "MyCritic")])
def test_the_example_of_a_plug_in_has_the_signatures_of_its_base_class(document: str, example: str) -> None:
    names: dict[str, Any] = {}
    exec(next(block.text for block in blocks(f"docs/{document}.md") if block.language == "python"), names)
    own, base = names[example], names[example].__base__
    overridden = [name for name in vars(own) if not name.startswith("__") and callable(getattr(base, name, None))]
    assert overridden
    for name in overridden:
        expected, parameters = (list(inspect.signature(getattr(cls, name)).parameters) for cls in (base, own))
        assert parameters == expected, name


def test_a_document_names_no_folder_of_somebodys_machine(subtests: pytest.Subtests) -> None:
    for document in DOCUMENTS:
        with subtests.test(document=document):
            assert not re.search(r"/(home|root|work|tmp)/", (ROOT / document).read_text(encoding="utf-8"))


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == countgen.__version__
    assert citation["authors"]
