"""Runs are killed by a process of its own, which forks before any library has started a thread."""

import os
import subprocess
import sys

import pytest

GENERATING = "--cases 6 --kills 3 --records 200".split()
JUDGING = "--images 24 --kills 2 --batch-size 2".split()
SCRIPT = f"""
from tests.faults import crash_consistency, rejudging
print("generating ended with", crash_consistency.main({GENERATING}), flush=True)
print("judging ended with", rejudging.main({JUDGING}), flush=True)
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What one process says of both, because importing the libraries takes longer than either."""
    # Both write, and wait for the disk, hundreds of times: the folders of tests lie in memory where it has room.
    variables = os.environ | {"TMPDIR": str(tmp_path_factory.mktemp("kills"))}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, env=variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_kills_at_random_moments_lose_nothing(said: str) -> None:
    assert "generating ended with 0\n" in said
    assert "3 kills of a run of 6 images: 0 finished images lost, 0 recorded twice" in said
    assert "table byte-equal to an uninterrupted run: True, images: True" in said


def test_kills_while_judging_a_finished_run_lose_no_judgement(said: str) -> None:
    assert "judging ended with 0\n" in said
    assert "24 images by miniature-fcos, 2 at once: " in said
    assert "0 judgements lost, 0 images judged twice, equal to those without a kill: True" in said
