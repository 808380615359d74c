import os

import pytest

from benchmarks import scale_plan
from benchmarks.engines import local
from benchmarks.reliability import settings
from benchmarks.scale_out import core_seconds, pace


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
    # One process: the driver is all there is. Both clocks step by a hundredth of a second.
    assert found.driver == pytest.approx(found.all, abs=0.05)


def test_core_seconds_count_this_process():
    used = sum(os.times()[:2])
    assert core_seconds() == pytest.approx(used, abs=0.5)
