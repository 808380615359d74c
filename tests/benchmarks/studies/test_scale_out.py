import subprocess
import sys

import pytest


@pytest.mark.slow
def test_the_engines_are_compared_on_the_same_run() -> None:
    # A process of its own: here, other tests may have left a browser running.
    said = (
        "from benchmarks.evaluation.engines import local; from benchmarks.studies.crash_consistency import settings\n"
        "from benchmarks.studies.scale_out import pace; found = pace(settings(3), local.attempts, 1)\n"
        "print(len(found.table.splitlines()), found.rate, found.start, found.driver, found.all)"
    )
    printed = subprocess.run([sys.executable, "-c", said], check=True, capture_output=True, text=True).stdout
    lines, rate, start, driver, everything = map(float, printed.splitlines()[-1].split())
    assert lines == 3
    assert rate > 0
    assert start > 0
    # One process: the driver is all there is. Both clocks step by a hundredth of a second.
    assert driver == pytest.approx(everything, abs=0.05)


@pytest.mark.slow
def test_core_seconds_count_this_process():
    # A process of its own: here, other tests may have left a browser running.
    said = (
        "import os\nfrom benchmarks.studies.scale_out import core_seconds\nprint(core_seconds(), sum(os.times()[:2]))"
    )
    printed = subprocess.run([sys.executable, "-c", said], check=True, capture_output=True, text=True).stdout
    found, used = map(float, printed.split())
    assert found == pytest.approx(used, abs=0.1)
