"""A share of `tests/faults/fuzz_cli.py`, always the same."""

from tests.faults.fuzz_cli import fuzz


def test_hostile_arguments_and_run_folders_are_answered_in_one_line() -> None:
    assert list(fuzz(tries=60, seed=1)) == []
