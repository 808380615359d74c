import subprocess
import sys

import pytest

from benchmarks import scale_plan
from benchmarks.engines import local
from benchmarks.reliability import settings
from benchmarks.scale_out import pace


def test_kills_at_random_moments_lose_nothing() -> None:
    # In a process of its own, which forks before any library has started a thread.
    command = [sys.executable, "-m", "benchmarks.reliability", "--cases", "6", "--kills", "3", "--records", "200"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kills of a run of 6 images: 0 finished images lost, 0 recorded twice" in done.stdout
    assert "table byte-equal to an uninterrupted run: True, pictures: True" in done.stdout


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
    assert found.rate > 0
    assert found.start > 0
    assert len(found.table.splitlines()) == 3
