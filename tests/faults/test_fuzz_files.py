import pytest

from tests.faults.fuzz_files import fuzz


@pytest.mark.parametrize("seed", [1, 2])
def test_damaged_files_run_nothing_and_are_refused_in_one_line(seed: int) -> None:
    counted, failures = fuzz(72, seed)
    assert failures == []
    assert counted.total() == 72
    kinds = ("recipe", "token", "adapter", "detector", "calibration", "judgements")
    assert all(counted[f"{kind} refused"] for kind in kinds)
