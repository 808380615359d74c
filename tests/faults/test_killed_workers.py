"""Ray gives the run of the local engine, also if workers are killed, on a cluster that only this machine reaches."""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from countgen.benchmarks.evaluation.engines import local, ray_cluster
from countgen.benchmarks.evaluation.plan import Case, RunSettings
from countgen.benchmarks.evaluation.records import read_run
from countgen.benchmarks.evaluation.run import evaluate
from countgen.benchmarks.evaluation.worker import Outcome
from tests.benchmarks.evaluation.made_records import comparable
from tests.faults.crash_consistency import settings

pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # Ray leaves its processes' pipes to the collector


@pytest.mark.nightly
def test_a_run_with_a_killed_worker_loses_nothing_and_equals_the_local_engines(tmp_path: Path) -> None:
    killed: list[int] = []

    def attempts(cases: Sequence[Case], settings: RunSettings) -> Iterator[Outcome]:
        for outcome in ray_cluster.attempts(cases, settings, workers=1):  # each imports torch: what takes the time
            if not killed:
                killed.append(outcome.process)
                os.kill(outcome.process, signal.SIGKILL)  # it generates its next image already
            yield outcome

    assert evaluate(settings(4), tmp_path / "local", local.attempts, quiet=True).done == 4
    assert evaluate(settings(4), tmp_path / "ray", attempts, quiet=True).done == 4
    assert killed[0] != os.getpid()
    assert len((tmp_path / "ray" / "records.jsonl").read_bytes().splitlines()) == 4
    assert comparable(read_run(tmp_path / "ray")[1]) == comparable(read_run(tmp_path / "local")[1])
    for path in (tmp_path / "local" / "images").iterdir():
        assert (tmp_path / "ray" / "images" / path.name).read_bytes() == path.read_bytes()


def listening() -> set[tuple[str, int]]:
    """The addresses on which this process and those that it started listen."""
    addresses = set()
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        with suppress(psutil.Error):  # it ended
            connections = process.net_connections("tcp")
            addresses |= {tuple(each.laddr) for each in connections if each.status == psutil.CONN_LISTEN}
    return addresses


def test_a_case_that_kills_every_worker_fails_alone_and_the_cluster_listens_on_the_loopback_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The workers import no torch, so that they start at once; the processes and their deaths are real."""

    class Light:  # pickled by value: the workers cannot import this file
        def __init__(self, *_: Any) -> None:
            pass

        def process(self) -> int:
            return os.getpid()

        def attempt(self, case: Any) -> tuple[str, str]:
            if case.key == "1":
                os.kill(os.getpid(), signal.SIGKILL)
            return case.key, "done"

    monkeypatch.setattr(ray_cluster, "Worker", Light)
    monkeypatch.setattr(ray_cluster, "failed", lambda case, *_: (case.key, "failed"))
    prompt, earlier = SimpleNamespace(targets=()), listening()
    cases: list[Any] = [SimpleNamespace(key=str(key), backbone="none", prompt=prompt) for key in range(8)]
    outcomes: Any = ray_cluster.attempts(cases, SimpleNamespace(device="cpu"), workers=2)
    first = next(outcomes)
    opened = listening() - earlier
    assert dict([first, *outcomes]) == {case.key: "failed" if case.key == "1" else "done" for case in cases}
    assert len(opened) >= 3  # the control service, the node's and a worker's at least
    assert {host for host, _ in opened} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
