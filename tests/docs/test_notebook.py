"""The notebook runs from top to bottom and prints what it shows."""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import matplotlib
import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "first-steps.ipynb"


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
    assert printed[-1].endswith("same pixels: True\n")
    # The steps of a run may differ by rounding on another machine; what is asked for and what is counted may not.
    for at in (0, 1, -1):
        texts = [text for output in cells[at]["outputs"] if output.get("name") == "stdout" for text in output["text"]]
        assert printed[at] == "".join(texts)
