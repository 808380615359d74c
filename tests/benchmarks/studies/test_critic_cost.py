"""The cost table, at toy size."""

import pytest

from benchmarks.studies.critics import cost as critic_cost


def test_costs_are_relative_to_the_first_critic(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--size", "64", "--repeats", "1", "--threads", "1"]
    assert critic_cost.main([*arguments, "--critics", "yolo11n", "FCOS R50"]) == 0
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[1].strip() for row in rows] == ["yolo11n", "FCOS R50"]
    assert float(rows[0][4]) == 1
    assert all(float(row[3]) > 0 for row in rows)
