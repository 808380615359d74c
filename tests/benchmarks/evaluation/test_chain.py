"""Chains of edits: one object more each time."""

import json

import pytest

from countgen.benchmarks.evaluation.chain import Link, main, table


def link(count: int, *, right: bool = True, kept: float = 1.0, unbroken: bool = True) -> Link:
    return Link(count, right, kept, 0.05, unbroken, 4, 0.5)


def test_the_table_has_a_row_for_each_edit() -> None:
    broken = [link(2), link(3, right=False, kept=0.5, unbroken=False)]
    rows = table([[link(2), link(3)], broken]).rows
    assert [row[0] for row in rows] == ["1 -> 2", "2 -> 3"]
    assert [row[1].split()[0] for row in rows] == ["100", "50"]
    assert [row[2:4] for row in rows] == [("1.00", "100 [34, 100]"), ("0.75", "50 [9, 91]")]


def test_a_chain_edits_the_image_before(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--chains", "1", "--steps", "2", "--seed", "3", "--max-evaluations", "30", "--json"])
    (chain,) = map(json.loads, capsys.readouterr().out.splitlines())
    first, second = chain["edits"]
    assert (chain["object"], first["count"], second["count"]) == ("apple", 2, 3)
    assert first["right"]
    assert 0 < first["objects_kept"] <= 1
    assert second["unbroken"] <= first["unbroken"]
