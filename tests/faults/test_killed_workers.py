"""The same run by every engine, and on Ray with a worker that is killed."""

import ipaddress
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from countgen.benchmarks.evaluation.engines import local, ray_cluster
from countgen.benchmarks.evaluation.plan import Case, RunSettings, cases
from countgen.benchmarks.evaluation.records import read_run
from countgen.benchmarks.evaluation.run import evaluate
from countgen.benchmarks.evaluation.worker import Outcome
from tests.benchmarks.evaluation.made_records import comparable
from tests.faults.crash_consistency import settings

pytest.importorskip("ray")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # Ray leaves the pipes of its processes to the collector
def test_ray_with_a_killed_worker_loses_nothing_and_equals_the_local_engine(tmp_path: Path) -> None:
    asked = settings(4)
    killed: list[int] = []

    def attempts(cases: Sequence[Case], settings: RunSettings) -> Iterator[Outcome]:
        for outcome in ray_cluster.attempts(cases, settings, workers=1):  # each imports torch: what takes the time
            if not killed:
                killed.append(outcome.process)
                os.kill(outcome.process, signal.SIGKILL)  # it draws its next image already
            yield outcome

    assert evaluate(asked, tmp_path / "local", local.attempts, quiet=True).done == 4
    assert evaluate(asked, tmp_path / "ray", attempts, quiet=True).done == 4
    assert killed[0] != os.getpid()
    assert len((tmp_path / "ray" / "records.jsonl").read_bytes().splitlines()) == 4
    assert comparable(read_run(tmp_path / "ray")[1]) == comparable(read_run(tmp_path / "local")[1])
    for path in (tmp_path / "local" / "images").iterdir():
        assert (tmp_path / "ray" / "images" / path.name).read_bytes() == path.read_bytes()


def test_ray_refuses_what_it_cannot_run() -> None:
    asked = settings(1)
    with pytest.raises(ValueError, match="at least one worker"):
        next(ray_cluster.attempts(cases(asked), asked, workers=0))
    assert not list(ray_cluster.attempts([], asked, workers=1))


# The workers below import no torch, so that they start at once; the processes and their deaths are real.
LIGHT_SETTINGS = SimpleNamespace(device="cpu")


def light_cases(number: int) -> list[Any]:
    prompt = SimpleNamespace(targets=())
    return [SimpleNamespace(key=str(k), backbone="none", prompt=prompt) for k in range(number)]


def light_worker(attempt: Callable[[Any], tuple[str, str]]) -> type:
    """Made in a function, so that it is pickled by value: the workers cannot import this file."""

    class Light:
        def __init__(self, *_: Any) -> None:
            pass

        def process(self) -> int:
            return os.getpid()

        def attempt(self, case: Any) -> tuple[str, str]:
            return attempt(case)

    return Light


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_case_that_kills_every_worker_is_recorded_as_failed_and_the_others_are_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def attempt(case: Any) -> tuple[str, str]:
        if case.key == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        return case.key, "drawn"

    monkeypatch.setattr(ray_cluster, "Worker", light_worker(attempt))
    monkeypatch.setattr(ray_cluster, "failed", lambda case, _, error: (case.key, type(error).__name__))
    outcomes: list[Any] = list(ray_cluster.attempts(light_cases(8), LIGHT_SETTINGS, workers=2))  # type: ignore[arg-type]
    assert len(outcomes) == 8
    assert {key for key, what in outcomes if what == "drawn"} == set("0234567")
    assert dict(outcomes)["1"].startswith("Actor")


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_models_that_no_ray_worker_can_load_are_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __init__(self, *_: Any) -> None:
            raise ValueError("no such weights: none.pt")

        def process(self) -> int:
            return os.getpid()

    monkeypatch.setattr(ray_cluster, "Worker", Broken)
    with pytest.raises(ValueError, match=r"no worker could load its models: .*none\.pt"):
        next(ray_cluster.attempts(light_cases(1), LIGHT_SETTINGS, workers=2))  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_local_cluster_listens_on_the_loopback_only_and_another_is_used_by_its_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def attempt(case: Any) -> tuple[str, str]:
        import ray

        return case.key, ray.get_runtime_context().gcs_address

    monkeypatch.setattr(ray_cluster, "Worker", light_worker(attempt))
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = str(one.getsockname()[1])
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")  # nothing listens there yet: a local cluster needs none
    earlier = listening_sockets()
    alone = ray_cluster.attempts(light_cases(2), LIGHT_SETTINGS, workers=1)  # type: ignore[arg-type]
    first: Any = next(alone)
    opened = {inode: address for inode, address in listening_sockets().items() if inode not in earlier}
    assert len(opened) >= 3  # the control service, the node's and a worker's at least
    assert {address for address in opened.values() if not address.is_loopback} == set()
    ports = ports_of([first, *alone])
    assert len(ports) == 2
    assert port not in ports
    with pytest.raises(ValueError, match=r"the Ray cluster at 'nowhere' \(HOST:PORT\) cannot be used"):
        next(ray_cluster.attempts(light_cases(1), LIGHT_SETTINGS, workers=1, address="nowhere"))  # type: ignore[arg-type]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}"]
    command += ["--num-cpus=1", "--include-dashboard=false", "--disable-usage-stats"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as cluster:
        try:
            assert cluster.stdout is not None
            next(line for line in cluster.stdout if "Ray runtime started" in line)
            there = ray_cluster.attempts(light_cases(3), LIGHT_SETTINGS, workers=1, address=f"127.0.0.1:{port}")  # type: ignore[arg-type]
            assert ports_of(there) == [port] * 3
        finally:
            cluster.terminate()
            cluster.communicate()  # or it would wait for somebody to listen


def test_a_cluster_whose_token_is_missing_says_what_to_set(tmp_path: Path) -> None:
    # In a process of its own: Ray reads the variables once.
    code = "from countgen.benchmarks.evaluation.engines import ray_cluster as r; r._started(1, '127.0.0.1:1')"
    environment = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_TOKEN"}
    environment |= {"HOME": str(tmp_path), "RAY_AUTH_MODE": "token"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].startswith("ValueError: the Ray cluster at '127.0.0.1:1' (HOST:PORT) cannot")
    assert "RAY_AUTH_MODE=token here and on its nodes" in done.stderr


def listening_sockets() -> dict[str, Address]:
    """The addresses on which this process and those that it started listen, by the socket's inode."""
    mine, found = {str(os.getpid())}, {}
    parents = {path.parent.name: path.read_text().rpartition(")")[2].split()[1] for path in stats()}
    while more := {child for child, parent in parents.items() if parent in mine} - mine:
        mine |= more
    held = set()
    for process in mine:
        with suppress(FileNotFoundError):
            for name in os.listdir(f"/proc/{process}/fd"):
                with suppress(FileNotFoundError):
                    held.add(os.readlink(f"/proc/{process}/fd/{name}").removeprefix("socket:[").rstrip("]"))
    for protocol in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{protocol}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and inode in held:
                words = bytes.fromhex(local.partition(":")[0])  # of 32 bits each, in a PC's order
                address = ipaddress.ip_address(b"".join(words[k : k + 4][::-1] for k in range(0, len(words), 4)))
                found[inode] = getattr(address, "ipv4_mapped", None) or address
    return found


def stats() -> Iterator[Path]:
    """What the system says of each process that is still there."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        if path.exists():
            yield path


def ports_of(outcomes: Iterable[Any]) -> list[str]:
    return [address.rpartition(":")[2] for _, address in outcomes]
