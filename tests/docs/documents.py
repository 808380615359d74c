"""What the documents tell a reader to run.

A fenced block of python, and every `countgen` command in a block of sh, is run, unless an HTML comment before it says
why not: `<!-- not-run: needs a download -->`. Blocks that install something are what `.ci/run` and
`benchmarks.first_minutes` run; benchmarks and training, `python -m ...`, take their time and have tests of their own.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = tuple(
    sorted(
        path.relative_to(ROOT).as_posix()
        for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "countgen" / "miniature" / "README.md")
    )
)
_FENCE = re.compile(
    r"(?P<comments>(?:^<!--.*?-->\n+)*)^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_NOT_RUN = re.compile(r"<!-- not-run: \S.* -->")
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


def commands(block: Block) -> list[list[str]]:
    """The `countgen` commands of a shell block, as words after the first; comments and line continuations taken out."""
    lines = block.text.replace("\\\n", " ").splitlines()
    split = (shlex.split(line, comments=True) for line in lines)
    return [words[1:] for words in split if words[:1] == ["countgen"]]
