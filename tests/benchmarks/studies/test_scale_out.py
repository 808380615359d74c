import subprocess
import sys

import pytest

SAID = """
import os
from benchmarks.evaluation.engines import local
from benchmarks.studies.crash_consistency import settings
from benchmarks.studies.scale_out import core_seconds, pace
print("used", core_seconds(), sum(os.times()[:2]))
found = pace(settings(3), local.attempts, 1)
print("pace", len(found.table.splitlines()), found.rate, found.start, found.driver, found.all)
"""


@pytest.fixture(scope="module")
def said() -> dict[str, list[float]]:
    """What a process of its own prints: here, other tests may have left a browser running."""
    printed = subprocess.run([sys.executable, "-c", SAID], check=True, capture_output=True, text=True).stdout
    words = [line.split() for line in printed.splitlines() if line.startswith(("used ", "pace "))]
    return {name: [float(word) for word in numbers] for name, *numbers in words}


@pytest.mark.slow
def test_the_engines_are_compared_on_the_same_run(said: dict[str, list[float]]) -> None:
    lines, rate, start, driver, everything = said["pace"]
    assert lines == 3
    assert rate > 0
    assert start > 0
    # One process: the driver is all there is. Both clocks step by a hundredth of a second.
    assert driver == pytest.approx(everything, abs=0.05)


@pytest.mark.slow
def test_core_seconds_count_this_process(said: dict[str, list[float]]) -> None:
    found, used = said["used"]
    assert found == pytest.approx(used, abs=0.1)
