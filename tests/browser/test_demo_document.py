"""The examples of docs/demo.md, run against a served demo."""

import subprocess
from pathlib import Path

import pytest

from tests.docs.test_documents import DOCUMENTS, FENCE

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:gradio.*"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def test_the_examples_for_programs_work(
    demo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = FENCE.finditer(DOCUMENTS["docs/demo.md"])
    examples = [block for block in blocks if "http://127.0.0.1:7860" in block["text"]]
    assert [block["language"] for block in examples] == ["python", "sh"]
    python, shell = (block["text"].replace("http://127.0.0.1:7860", demo) for block in examples)
    exec(compile(python, "docs/demo.md", "exec"), {})  # the client's thread ends with the process
    made, edited, counted = capsys.readouterr().out.strip().splitlines()
    assert made.startswith("{'apple': 3}")
    assert edited.startswith("{'apple': ")
    assert counted.startswith("{'apple': ")
    said = subprocess.run(["bash", "-ec", shell], capture_output=True, text=True, timeout=120, check=True).stdout
    assert (tmp_path / "events.txt").read_text().count("event: complete") == 1
    assert "event: complete" in said
    assert '"counts": {"apple": 3}' in said
