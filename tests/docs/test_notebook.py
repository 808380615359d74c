"""The notebook runs from top to bottom and says what it says."""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import matplotlib
import pytest

from tests.docs.documents import ROOT

NOTEBOOK = ROOT / "docs" / "first-steps.ipynb"


def test_the_notebook_runs_and_its_printed_lines_are_as_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    cells = [cell for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    printed, names = [], {"__name__": "__notebook__"}
    for number, cell in enumerate(cells):
        with redirect_stdout(io.StringIO()) as output:
            exec(compile("".join(cell["source"]), f"{NOTEBOOK.name}, cell {number}", "exec"), names)
        printed.append(output.getvalue())
    matplotlib.pyplot.close("all")
    assert (tmp_path / "nine-butterflies.png").is_file()
    assert printed[-1].endswith("same pixels: True\n")
    # The steps of a run may differ by rounding on another machine; what is asked for and what is found may not.
    assert [printed[at] for at in (0, 1, -1)] == [stored(cells[at]) for at in (0, 1, -1)]


def stored(cell: dict[str, Any]) -> str:
    """What a cell printed when the notebook was saved."""
    return "".join("".join(output["text"]) for output in cell["outputs"] if output.get("name") == "stdout")
