"""Read what the documents tell a reader to run.

Every fenced block of python, and every `countgen` command in a block of sh, is run unless an HTML comment before it
says why not: `<!-- not-run: needs a download -->`. Blocks that install something are covered by `.ci/run`;
`python -m ...` commands have tests of their own. All commands, in blocks and within sentences, are parsed.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from string import Template

ROOT = Path(__file__).parents[2]
DOCUMENTS = tuple(
    sorted(
        path.relative_to(ROOT).as_posix()
        for pattern in ("*.md", "docs/*.md", "benchmarks/*/README.md", "countgen/miniature/README.md")
        for path in ROOT.glob(pattern)
    )
)
_FENCE = re.compile(
    r"(?P<comments>(?:^ *<!--.*?-->\n+)*)^ *```(?P<language>\w+)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL
)
_NOT_RUN = re.compile(r"<!-- not-run: \S.* -->")
_IN_SENTENCE = re.compile(r"`((?:countgen|python\s+-m)\s[^`]+)`")
_OURS = re.compile(r"countgen |python -m countgen\b")
_ASSIGNMENT = re.compile(r'(\w+)="?([^"]*)"?')
_INSTALLS = re.compile(r"\bpip install\b|\bgit clone\b")


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is the number of its first line, `run` whether a test runs it."""

    language: str
    text: str
    line: int
    run: bool


def blocks(document: str) -> list[Block]:
    """Return the python and sh blocks of a document, in order."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return [
        Block(
            language=fence["language"],
            text=fence["text"],
            line=text.count("\n", 0, fence.start("text")) + 1,
            run=not _NOT_RUN.search(fence["comments"]) and not _INSTALLS.search(fence["text"]),
        )
        for fence in _FENCE.finditer(text)
        if fence["language"] in ("python", "sh")
    ]


def commands(shell: str) -> list[list[str]]:
    """Return the commands of a block as lists of words, without comments and with variables filled in."""
    variables: dict[str, str] = {}
    split = []
    for line in shell.replace("\\\n", " ").splitlines():
        if assignment := _ASSIGNMENT.fullmatch(line):
            variables[assignment[1]] = assignment[2]
        else:
            split.append(shlex.split(Template(line).safe_substitute(variables), comments=True))
    return [words for words in split if words]


def named_commands(document: str) -> set[str]:
    """Return our commands that a document names, in shell blocks and within sentences."""
    text = (ROOT / document).read_text(encoding="utf-8")
    shell = "".join(block.text for block in blocks(document) if block.language == "sh")
    every = [*commands(shell), *map(shlex.split, _IN_SENTENCE.findall(_FENCE.sub("", text)))]
    return {command for words in every if "..." not in words and _OURS.match(command := shlex.join(words))}
