import os
import subprocess
import sys
from pathlib import Path

# Both write, and wait for the disk, hundreds of times; where there is a folder in memory, that takes no time.
ENVIRONMENT = os.environ | ({"TMPDIR": "/dev/shm"} if Path("/dev/shm").is_dir() else {})


def test_kills_at_random_moments_lose_nothing() -> None:
    # In a process of its own, which forks before any library has started a thread.
    command = [sys.executable, "-m", "benchmarks.studies.crash_consistency"]
    command += ["--cases", "6", "--kills", "3", "--records", "200"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kills of a run of 6 images: 0 finished images lost, 0 recorded twice" in done.stdout
    assert "table byte-equal to an uninterrupted run: True, pictures: True" in done.stdout


def test_kills_while_judging_a_finished_run_lose_no_judgement() -> None:
    command = [
        sys.executable,
        "-m",
        "benchmarks.studies.rejudging",
        "--images",
        "24",
        "--kills",
        "2",
        "--batch-size",
        "2",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "24 images by miniature-fcos, 2 at once: " in done.stdout
    assert "0 judgements lost, 0 images judged twice, equal to those without a kill: True" in done.stdout
