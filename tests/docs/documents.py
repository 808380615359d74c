"""What the documents tell a reader to run.

A fenced block of python, and every `countgen` command in a block of sh, is run, unless an HTML comment before it says
why not: `<!-- not-run: needs a download -->`. Blocks that install something are what `.ci/run` runs; benchmarks and
training, `python -m ...`, take their time and have tests of their own. All of them, in blocks and within sentences, are
parsed.
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
        for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "countgen" / "miniature" / "README.md")
    )
)
_FENCE = re.compile(
    r"(?P<comments>(?:^<!--.*?-->\n+)*)^ *```(?P<language>\w+)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL
)
_NOT_RUN = re.compile(r"<!-- not-run: \S.* -->")
_NAMED = re.compile(r"`((?:countgen|python\s+-m)\s[^`]+)`")
_OURS = re.compile(r"countgen |python -m (?:app|benchmarks|countgen|critics)\b")
_ASSIGNED = re.compile(r'(\w+)="?([^"]*)"?')
_INSTALLS = re.compile(r"\bpip install\b|\bgit clone\b")


@dataclass(frozen=True)
class Block:
    """A fenced block and the number of its first line."""

    language: str
    text: str
    line: int
    run: bool


def blocks(document: str) -> list[Block]:
    """The blocks of a document, in order."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return [
        Block(
            language=found["language"],
            text=found["text"],
            line=text.count("\n", 0, found.start("text")) + 1,
            run=not _NOT_RUN.search(found["comments"]) and not _INSTALLS.search(found["text"]),
        )
        for found in _FENCE.finditer(text)
        if found["language"] in ("python", "sh")
    ]


def commands(shell: str) -> list[list[str]]:
    """The commands of a block's text, as words; comments and line continuations taken out, variables filled in."""
    variables: dict[str, str] = {}
    split = []
    for line in shell.replace("\\\n", " ").splitlines():
        if assigned := _ASSIGNED.fullmatch(line):
            variables[assigned[1]] = assigned[2]
        else:
            split.append(shlex.split(Template(line).safe_substitute(variables), comments=True))
    return [words for words in split if words]


def named_commands(document: str) -> set[str]:
    """Our `countgen` and `python -m` commands that a document names, in shell blocks and within sentences."""
    text = (ROOT / document).read_text(encoding="utf-8")
    shell = "".join(block.text for block in blocks(document) if block.language == "sh")
    named = [*commands(shell), *map(shlex.split, _NAMED.findall(_FENCE.sub("", text)))]
    return {command for words in named if "..." not in words and _OURS.match(command := shlex.join(words))}
