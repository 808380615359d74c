"""What the documents say can be done, done."""

import importlib.util
import io
import re
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import yaml

import countgen
from app.cli import build_parser, main
from tests.docs.documents import DOCUMENTS, ROOT, blocks, commands

SMALLER = {
    "eval": ["--limit", "1", "--max-evaluations", "4"],
    "generate": ["--max-evaluations", "30"],
}
"""Appended to commands: what takes a reader minutes takes a test a second."""

RUN = [document for document in DOCUMENTS if any(block.run for block in blocks(document))]


@pytest.mark.parametrize("document", RUN)
def test_everything_a_document_tells_to_run_runs(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__document__"}  # shared: later blocks go on where earlier ones end
    for block in blocks(document):
        if not block.run:
            continue
        where = f"{document}:{block.line}"
        if block.language == "python":
            with redirect_stdout(io.StringIO()):
                exec(compile("\n" * (block.line - 1) + block.text, str(ROOT / document), "exec"), names)
            continue
        for words in commands(block):
            code, output = run(words)
            # 1 says that a count was not reached or that pixels differ, which is an answer too.
            assert code in (0, 1), f"{where}: countgen {' '.join(words)}\n{output}"


def run(words: list[str]) -> tuple[int, str]:
    """Run `countgen` with these words in this process: its exit code and what it said."""
    output = io.StringIO()
    with redirect_stdout(output), redirect_stderr(output):
        try:
            return main([*words, *SMALLER.get(words[0], ())]), output.getvalue()
        except SystemExit as end:
            return int(end.code or 0), output.getvalue()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_module_and_file_a_document_names_is_there(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    modules = set(re.findall(r"python\s+-m\s+((?:app|benchmarks|countgen|critics)[.\w]*)", text))
    assert {name for name in modules if importlib.util.find_spec(name) is None} == set()
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    local = {link for link in links if not re.match(r"[a-z]+:", link)}
    assert {link for link in local if not (ROOT / document).parent.joinpath(link).exists()} == set()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_a_document_names_is_understood(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    for word in set(re.findall(r"`countgen ([a-z][a-z-]+)", text)):
        with redirect_stdout(io.StringIO()), pytest.raises(SystemExit, match=r"^0$"):
            main([word, "--help"])
    for block in blocks(document):
        for words in commands(block) if block.language == "sh" else ():
            if "..." not in words:
                build_parser().parse_args(words)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_document_names_no_folder_of_somebodys_machine(document: str) -> None:
    assert not re.search(r"/(home|root|work|tmp)/", (ROOT / document).read_text(encoding="utf-8"))


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == countgen.__version__
    assert citation["authors"]
