"""Generate on the workers of a Ray cluster, on one machine or many; this process writes the results."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

from countgen.benchmarks.evaluation.plan import Case, RunSettings, object_names
from countgen.benchmarks.evaluation.worker import Outcome, Worker, failed

MOST_DEATHS = 2
"""Number of workers that may die of a case before it is recorded as failed."""
_TOKEN = "if it asks for a token, set RAY_AUTH_MODE=token here and on its nodes, with the same ~/.ray/auth_token"
_LOOPBACK = "127.0.0.1"
_STORE_BYTES = 256 * 2**20


def attempts(
    cases: Sequence[Case], settings: RunSettings, *, workers: int, address: str | None = None
) -> Iterator[Outcome]:
    """Yield outcomes as they are finished; a case whose worker died is generated again by another.

    Args:
        cases: of one backbone after the other.
        settings: of the run; every worker uses its threads.
        workers: processes, each with models of its own; on CUDA each has a GPU.
        address: of a cluster whose nodes have this package installed; a local one is started by default.

    Raises:
        ValueError: no worker, no cluster at the address, or models that no worker can load.
    """
    if workers < 1:
        raise ValueError(f"at least one worker is needed, got {workers}")
    if not cases:
        return
    ray = _started(workers, address)
    try:
        for backbone, group in groupby(cases, key=lambda case: case.backbone):
            own = list(group)
            yield from _Pool(ray, settings, backbone, workers, object_names(own)).attempts(own)
    finally:
        ray.shutdown()


def _started(workers: int, address: str | None) -> Any:
    # Read when Ray is imported: no usage reports, and no hiding of GPUs from workers that request none.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise ValueError("--engine ray needs Ray: pip install 'countgen[ray]'") from error

    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address is None:
        with _on_loopback():
            # "local": None would be the cluster that the variable RAY_ADDRESS names.
            local = {"num_cpus": workers, "object_store_memory": _STORE_BYTES, "include_dashboard": False}
            ray.init(address="local", **quiet, **local)
        where = {node["NodeManagerAddress"] for node in ray.nodes()}
        if where != {_LOOPBACK}:
            ray.shutdown()
            raise ValueError(
                f"this Ray, {ray.__version__}, listens on {where} and not on {_LOOPBACK}; use another version"
            )
        return ray
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, ray.exceptions.RayError) as error:
        raise ValueError(f"the Ray cluster at {address!r} (HOST:PORT) cannot be used: {error}; {_TOKEN}") from error
    return ray


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Bind Ray's processes to the loopback interface within the context, as Ray does by itself on macOS and Windows.

    Otherwise they listen on every interface, and everybody who can connect can run code. An address given to
    `ray.init` does not help, since Ray replaces 127.0.0.1 by the machine's own. The variable is for the processes that
    are started; this process may have read it before.
    """
    from ray._private import ray_constants

    name, enabled = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, ray_constants.ENABLE_RAY_CLUSTER
    previous = os.environ.get(name)
    os.environ[name], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = enabled
        del os.environ[name]
        if previous is not None:
            os.environ[name] = previous


class _Pool:
    """The workers of one backbone, and what each is doing: a case, or None while it loads its models."""

    def __init__(
        self, ray: Any, settings: RunSettings, backbone: str, workers: int, asked: tuple[tuple[str, ...], ...]
    ) -> None:
        self.ray = ray
        gpus = 1 if settings.device.startswith("cuda") else 0
        # A worker that dies is started again, with its models; its case is given out again here.
        remote = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=-1, max_task_retries=0)(Worker)
        self.workers = [remote.remote(settings, backbone, asked) for _ in range(workers)]
        self.pending: dict[Any, tuple[int, Case | None]] = {}
        for number in range(workers):
            self._submit(number, None)

    def _submit(self, number: int, case: Case | None) -> None:
        worker = self.workers[number]
        self.pending[worker.process.remote() if case is None else worker.attempt.remote(case)] = number, case

    def attempts(self, cases: Sequence[Case]) -> Iterator[Outcome]:
        left = deque(cases)
        deaths: Counter[str] = Counter()
        idle: list[int] = []
        while left or any(case for _, case in self.pending.values()):
            (reference,), _ = self.ray.wait(list(self.pending), num_returns=1)
            number, case = self.pending.pop(reference)
            outcome: Outcome | None = None
            try:
                answer = self.ray.get(reference)
                idle.append(number)
                outcome = answer if case else None
            except (self.ray.exceptions.RayActorError, self.ray.exceptions.ObjectLostError) as error:
                if case is not None:
                    self._submit(number, None)
                    deaths[case.key] += 1
                    if deaths[case.key] < MOST_DEATHS:
                        left.appendleft(case)
                    else:
                        outcome = failed(case, error)
                elif not isinstance(error, self.ray.exceptions.ActorDiedError):
                    self._submit(number, None)
                elif not (idle or self.pending):
                    reason = str(error).strip().splitlines()[-1]
                    raise ValueError(f"no worker could load its models: {reason}") from error
            while left and idle:
                self._submit(idle.pop(), left.popleft())
            if outcome is not None:
                yield outcome
        for worker in self.workers:
            self.ray.kill(worker)
