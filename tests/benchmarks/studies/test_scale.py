import subprocess
import sys

import pytest

from benchmarks import scale_plan


def test_a_plan_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--prompts", "7200", "--gpus", "4", "--gpus-per-shard", "2", "--seconds", "1.5", "--judging", "0.5"]
    assert scale_plan.main([*arguments, "--side", "64", "--dollars", "3"]) == 0
    printed = capsys.readouterr().out
    assert "= 4 GPU-hours" in printed
    assert "/ 4 GPUs = 1.0 h" in printed
    assert "= 12 $" in printed
    assert "2 of 2 GPUs, 3,600 images each" in printed


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


def test_core_seconds_count_this_process():
    # A process of its own: here, other tests may have left a browser running.
    said = (
        "import os\nfrom benchmarks.studies.scale_out import core_seconds\nprint(core_seconds(), sum(os.times()[:2]))"
    )
    printed = subprocess.run([sys.executable, "-c", said], check=True, capture_output=True, text=True).stdout
    found, used = map(float, printed.split())
    assert found == pytest.approx(used, abs=0.1)
