import subprocess
import sys

import pytest

from benchmarks import scale_plan
from benchmarks.engines import local
from benchmarks.reliability import settings
from benchmarks.scale_out import pace


def test_a_plan_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--prompts", "7200", "--gpus", "4", "--gpus-per-shard", "2", "--seconds", "1.5", "--judging", "0.5"]
    assert scale_plan.main([*arguments, "--side", "64", "--dollars", "3"]) == 0
    printed = capsys.readouterr().out
    assert "= 4 GPU-hours" in printed
    assert "/ 4 GPUs = 1.0 h" in printed
    assert "= 12 $" in printed
    assert "2 of 2 GPUs, 3,600 images each" in printed


def test_the_engines_are_compared_on_the_same_run() -> None:
    asked = settings(3)
    found = pace(asked, local.attempts, 1)
    assert len(found.table.splitlines()) == 3
    assert found.rate > 0
    assert found.start > 0
    # One process: the driver is all there is, but for what other tests of it have started. Clocks step by a hundredth.
    assert found.driver <= found.all + 0.05


def test_core_seconds_count_this_process():
    # A process of its own: here, other tests may have left a browser running.
    said = "import os; from benchmarks.scale_out import core_seconds; print(core_seconds(), sum(os.times()[:2]))"
    printed = subprocess.run([sys.executable, "-c", said], check=True, capture_output=True, text=True).stdout
    found, used = map(float, printed.split())
    assert found == pytest.approx(used, abs=0.1)
