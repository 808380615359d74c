"""Ray gives the run of the local engine, also if workers are killed, on a cluster that only this machine reaches."""

import ipaddress
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
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
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # Ray leaves its processes' pipes to the collector


def test_a_cluster_needs_a_worker_and_a_case() -> None:
    with pytest.raises(ValueError, match="at least one worker"):
        next(ray_cluster.attempts(cases(settings(1)), settings(1), workers=0))
    assert not list(ray_cluster.attempts([], settings(1), workers=1))


@pytest.mark.nightly
def test_a_run_with_a_killed_worker_loses_nothing_and_equals_the_local_engines(tmp_path: Path) -> None:
    asked = settings(4)
    killed: list[int] = []

    def attempts(cases: Sequence[Case], settings: RunSettings) -> Iterator[Outcome]:
        for outcome in ray_cluster.attempts(cases, settings, workers=1):  # each imports torch: what takes the time
            if not killed:
                killed.append(outcome.process)
                os.kill(outcome.process, signal.SIGKILL)  # it generates its next image already
            yield outcome

    assert evaluate(asked, tmp_path / "local", local.attempts, quiet=True).done == 4
    assert evaluate(asked, tmp_path / "ray", attempts, quiet=True).done == 4
    assert killed[0] != os.getpid()
    assert len((tmp_path / "ray" / "records.jsonl").read_bytes().splitlines()) == 4
    assert comparable(read_run(tmp_path / "ray")[1]) == comparable(read_run(tmp_path / "local")[1])
    for path in (tmp_path / "local" / "images").iterdir():
        assert (tmp_path / "ray" / "images" / path.name).read_bytes() == path.read_bytes()


# The workers below import no torch, so that they start at once; the processes and their deaths are real.
@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Iterator[Any]]:
    """The engine with workers that answer with the port of their cluster; None where the case failed."""

    def light_attempts(number: int, *, deadly: str = "", **options: Any) -> Iterator[tuple[str, str | None]]:
        class Light:  # pickled by value: the workers cannot import this file
            def __init__(self, *_: Any) -> None:
                if deadly == "models":
                    raise ValueError("no such weights: none.pt")

            def process(self) -> int:
                return os.getpid()

            def attempt(self, case: Any) -> tuple[str, str]:
                import ray

                if case.key == deadly:
                    os.kill(os.getpid(), signal.SIGKILL)
                return case.key, ray.get_runtime_context().gcs_address.rpartition(":")[2]

        monkeypatch.setattr(ray_cluster, "Worker", Light)
        monkeypatch.setattr(ray_cluster, "failed", lambda case, *_: (case.key, None))
        prompt, asked = SimpleNamespace(targets=()), SimpleNamespace(device="cpu")
        light_cases: list[Any] = [SimpleNamespace(key=str(k), backbone="none", prompt=prompt) for k in range(number)]
        engine: Any = ray_cluster.attempts
        yield from engine(light_cases, asked, **options)

    return light_attempts


def test_a_case_that_kills_every_worker_fails_alone_and_the_cluster_listens_on_the_loopback_only(attempts: Any) -> None:
    earlier = listening_sockets()
    outcomes = attempts(8, workers=2, deadly="1")
    first = next(outcomes)
    opened = {inode: host for inode, host in listening_sockets().items() if inode not in earlier}
    assert len(opened) >= 3  # the control service, the node's and a worker's at least
    assert all(host.is_loopback for host in opened.values())
    ports = dict([first, *outcomes])
    assert sorted(ports) == list("01234567")
    assert [key for key, port in ports.items() if port is None] == ["1"]


@pytest.mark.nightly
def test_another_cluster_is_used_by_its_address_alone(attempts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")  # nothing listens there yet: a local cluster needs none
    assert port not in dict(attempts(2, workers=1)).values()
    with pytest.raises(ValueError, match=r"the Ray cluster at 'nowhere' \(HOST:PORT\) cannot be used"):
        next(attempts(1, workers=1, address="nowhere"))
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}"]
    command += ["--num-cpus=1", "--include-dashboard=false", "--disable-usage-stats"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as cluster:
        try:
            assert cluster.stdout is not None
            next(line for line in cluster.stdout if "Ray runtime started" in line)
            assert set(dict(attempts(3, workers=1, address=f"127.0.0.1:{port}")).values()) == {port}
        finally:
            cluster.terminate()
            cluster.communicate()  # or it would wait for somebody to listen


@pytest.mark.nightly
def test_models_that_no_worker_can_load_are_a_clear_error(attempts: Any) -> None:
    with pytest.raises(ValueError, match=r"no worker could load its models: .*none\.pt"):
        next(attempts(1, workers=2, deadly="models"))


@pytest.mark.nightly
def test_a_cluster_whose_token_is_missing_says_what_to_set(tmp_path: Path) -> None:
    # In a process of its own: Ray reads the variables once.
    code = "from countgen.benchmarks.evaluation.engines import ray_cluster as r; r._started(1, '127.0.0.1:1')"
    environment = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_TOKEN"}
    environment |= {"HOME": str(tmp_path), "RAY_AUTH_MODE": "token"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].startswith("ValueError: the Ray cluster at '127.0.0.1:1' (HOST:PORT) cannot")
    assert "RAY_AUTH_MODE=token here and on its nodes" in done.stderr


def listening_sockets() -> dict[str, Any]:
    """The addresses on which this process and those that it started listen, by the socket's inode."""
    processes, found, held = {str(os.getpid())}, {}, set()
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            parents[path.parent.name] = path.read_text().rpartition(")")[2].split()[1]
    while more := {child for child, parent in parents.items() if parent in processes} - processes:
        processes |= more
    for process in processes:
        with suppress(FileNotFoundError):
            for name in os.listdir(f"/proc/{process}/fd"):
                with suppress(FileNotFoundError):
                    held.add(os.readlink(f"/proc/{process}/fd/{name}").removeprefix("socket:[").rstrip("]"))
    for protocol in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{protocol}").read_text().splitlines()[1:]:
            _, local_address, _, state, *_, inode = line.split()[:10]
            if state == "0A" and inode in held:
                words = bytes.fromhex(local_address.partition(":")[0])  # of 32 bits each, in a PC's order
                host = ipaddress.ip_address(b"".join(words[k : k + 4][::-1] for k in range(0, len(words), 4)))
                found[inode] = getattr(host, "ipv4_mapped", None) or host
    return found
