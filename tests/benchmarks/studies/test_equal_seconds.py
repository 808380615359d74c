"""The table of methods at equal seconds says what its records say."""

from pathlib import Path

import pytest

from benchmarks.studies import equal_seconds
from benchmarks.studies.equal_seconds import Record, accuracy, comparison, costs

ROOT = Path(__file__).parents[3]


def record(method: str, seed: int, right: bool, total: int = 3, confirmed: bool = True) -> Record:
    case = {"prompt": "a photo of three cats", "seed": seed, "total": total, "kinds": 1}
    return {"method": method, **case, "right": right, "confirmed": confirmed, "seconds": 0.5, "evaluations": 4}


def test_right_images_are_counted_by_group() -> None:
    lines = accuracy([record("auto", seed, right=seed < 3) for seed in range(4)]).splitlines()
    assert lines[2:] == ["| 1-5 | 4 | 75 [30, 95] |"]


def test_costs_show_how_often_a_confirmed_image_is_wrong() -> None:
    found = {"auto": [record("auto", seed, right=seed > 0, confirmed=seed < 2) for seed in range(4)]}
    (line,) = costs(found).splitlines()[2:]
    assert line == "| auto | 0.50 | 0.50 | 4.0 | 2 of 4 | 50 [9, 91] |"


def test_the_comparison_counts_wins_on_the_same_cases() -> None:
    found = {
        "auto": [record("auto", seed, right=True) for seed in range(6)],
        "search": [record("search", seed, right=seed == 0) for seed in reversed(range(6))],
    }
    assert comparison(found, "auto", "search") == "auto against search: 5 won, 0 lost of 6, exact McNemar p = 0.062"


def test_the_document_holds_the_printed_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert equal_seconds.main([]) == 0
    printed = capsys.readouterr().out
    assert printed.split("\n\n")[0] in (ROOT / "docs" / "results.md").read_text("utf-8")
