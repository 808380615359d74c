"""A share of `tests/faults/fuzz_files.py`, always the same."""

from tests.faults.fuzz_files import fuzz


def test_damaged_files_run_nothing_and_are_refused_in_one_line() -> None:
    counted, failures = fuzz(60, seed=1)
    assert failures == []
    assert counted.total() == 60
    kinds = ("recipe", "token", "detector", "calibration", "judgements")
    assert all(counted[f"{kind} refused"] for kind in kinds)
