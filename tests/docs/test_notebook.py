"""The notebook runs from top to bottom and says what it says."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.docs.documents import ROOT

NOTEBOOK = ROOT / "docs" / "first-steps.ipynb"


# The kernel listens on this machine only; its client says in a warning that the channel is not encrypted.
@pytest.mark.filterwarnings("ignore:.*(TCP without encryption|event loop):")
def test_the_notebook_runs_and_its_printed_lines_are_as_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.fspath(ROOT))
    monkeypatch.setenv("IPYTHONDIR", os.fspath(tmp_path / "ipython"))
    stored = nbformat.read(NOTEBOOK, as_version=4)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": os.fspath(tmp_path)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", coalesce_streams=True, resources=resources).execute()
    assert (tmp_path / "nine-butterflies.png").is_file()
    assert printed(notebook)[-1].endswith("same pixels: True\n")
    # The steps of a run may differ by rounding on another machine; what is asked for and what is found may not.
    first_and_last = [printed(notebook)[at] for at in (0, 1, -1)]
    assert first_and_last == [printed(stored)[at] for at in (0, 1, -1)]


def printed(notebook: nbformat.NotebookNode) -> list[str]:
    """What each cell printed."""
    cells = (cell for cell in notebook.cells if cell.cell_type == "code")
    texts = ("".join(output.text for output in cell.outputs if output.get("name") == "stdout") for cell in cells)
    return [text for text in texts if text]
