"""Run what the documents and the notebook tell a reader to run.

Every fenced block of python, and every `countgen` command in a block of sh, is run unless an HTML comment before it
says why not: `<!-- not-run: needs a download -->`. Blocks that install something are covered by `.ci/run`. Commands of
all blocks and sentences are parsed.
"""

import io
import json
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from string import Template

import matplotlib
import pytest

from countgen import critics, methods
from countgen.app.cli import main
from countgen.app.commands import parse
from countgen.app.exit_codes import BAD_INPUT
from countgen.benchmarks.evaluation import suites
from countgen.critics import losses

ROOT = Path(__file__).parents[2]
DOCUMENTS = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for pattern in ("*.md", "docs/*.md", "benchmarks/*/README.md", "countgen/miniature/README.md")
    for path in sorted(ROOT.glob(pattern))
}
FENCE = re.compile(
    r"(?P<comments>(?:^ *<!--.*?-->\n+)*)^ *```(?P<language>python|sh)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL
)
NOT_RUN = re.compile(r"<!-- not-run: \S.* -->|\bpip install\b|\bgit clone\b")
IN_SENTENCE = re.compile(r"`(countgen\s[^`]+)`")
SMALLER = {
    "eval": ["--limit", "1", "--max-evaluations", "4"],
    "generate": ["--max-evaluations", "8"],
    "edit": ["--max-evaluations", "8"],
    "tokens learn": ["--trial-images", "2"],
}
"""Options appended to commands, so that a test takes a second instead of minutes; python blocks get 8 evaluations."""
EVALUATIONS = re.compile(r"max_evaluations=\d+")
AS_IT_STANDS = ("docs/tutorial.md",)
"""Documents whose python runs unchanged, with the evaluations they name."""
MOST_PAGES = 18


def runnable(text: str) -> list[re.Match[str]]:
    """Return the blocks of a document that a test runs."""
    return [block for block in FENCE.finditer(text) if not NOT_RUN.search(block[0])]


def commands(shell: str) -> Iterator[list[str]]:
    """Yield our commands in a block of sh as lists of words, without comments and with variables filled in."""
    variables: dict[str, str] = {}
    for line in shell.replace("\\\n", " ").splitlines():
        if assignment := re.fullmatch(r'(\w+)="?([^"]*)"?', line):
            variables[assignment[1]] = assignment[2]
            continue
        program, *words = shlex.split(Template(line).safe_substitute(variables), comments=True) or [""]
        if program == "countgen":
            yield words


def run_python(text: str, place: str, names: dict[str, object]) -> str:
    """Run a block of python, and return what it prints."""
    with redirect_stdout(io.StringIO()) as output:
        exec(compile(text, place, "exec"), names)
    return output.getvalue()


@pytest.mark.parametrize("document", [document for document, text in DOCUMENTS.items() if runnable(text)])
def test_everything_a_document_tells_to_run_runs(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__document__"}  # shared by all blocks of a document
    for block in runnable(DOCUMENTS[document]):
        line = DOCUMENTS[document].count("\n", 0, block.start("text"))
        if block["language"] == "python":
            text = block["text"]
            if document not in AS_IT_STANDS:
                text = EVALUATIONS.sub("max_evaluations=8", text)
            run_python("\n" * line + text, document, names)
            continue
        for words in commands(block["text"]):
            smaller = SMALLER.get(" ".join(words[:2]), SMALLER.get(words[0], []))
            with redirect_stdout(io.StringIO()) as output, redirect_stderr(output):
                code = main([*words, *smaller])
            # Exit code 1, a count that was not reached or pixels that differ, is a valid result.
            assert code in (0, 1), f"{document}:{line + 1}: countgen {' '.join(words)}\n{output.getvalue()}"


def test_the_notebook_runs_and_regenerates_its_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    names: dict[str, object] = {"__name__": "__notebook__"}
    notebook = json.loads((ROOT / "docs" / "first-steps.ipynb").read_text("utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    printed = [run_python(text, f"cell {number}", names) for number, text in enumerate(cells)]
    matplotlib.pyplot.close("all")
    assert printed[-1].endswith("same pixels: True\n")


def test_every_command_a_document_names_is_understood(subtests: pytest.Subtests) -> None:
    named = set()
    for text in DOCUMENTS.values():
        for block in FENCE.finditer(text):
            named |= {shlex.join(words) for words in commands(block["text"]) if block["language"] == "sh"}
        sentences = IN_SENTENCE.findall(FENCE.sub("", text))
        named |= {shlex.join(shlex.split(command)[1:]) for command in sentences if "..." not in command}
    assert len(named) > 50
    for command in sorted(named):
        with subtests.test(command=command):
            words = shlex.split(command)
            # A name in a sentence lacks what the command requires.
            assert parse(words if len(words) > 2 else [*words, "--help"]) != BAD_INPUT


def test_the_site_has_few_pages_and_lists_all_of_them() -> None:
    pages = [name.removeprefix("docs/") for name in DOCUMENTS if name.startswith("docs/")]
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8").partition("nav:")[2]
    assert len(pages) <= MOST_PAGES
    assert [page for page in pages if page not in navigation] == []


def test_papers_has_a_row_for_every_method_critic_loss_and_suite() -> None:
    shipped = {
        *(f"`{name}`" for name in (*methods.available(), *critics.available(), *losses.available())),
        *(f"`{name}`" for name in suites.available() if name.endswith("-style")),
    }
    assert {name for name in shipped if name not in DOCUMENTS["docs/papers.md"]} == set()


def test_every_file_a_document_links_is_there() -> None:
    for document, text in DOCUMENTS.items():
        for link in re.findall(r"\]\((?![a-z]+:)([^)#\s]+)[^)]*\)", text):
            assert (ROOT / document).parent.joinpath(link).exists(), f"{document}: {link}"
