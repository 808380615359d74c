"""Generate the images of a plan into a folder; the same plan and folder continue where a run stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from countgen.datasets.annotations import write_annotations
from countgen.datasets.card import write_card
from countgen.datasets.folder import Folder, Progress
from countgen.datasets.plan import Plan
from countgen.datasets.processes import Work, executor
from countgen.datasets.sampler import Attempt, Loader, Outcome
from countgen.errors import StoppedError
from countgen.models import Models


class Dataset:
    """The images of a plan: iterate for the accepted ones, in the order in which they are finished.

    The annotations are written when the iteration ends.

    Attributes:
        cells: how far each cell is.
    """

    def __init__(
        self, plan: Plan, load: Loader, folder: str | Path, *, workers: int = 1, keep_rejected: bool = False
    ) -> None:
        self._executor, self._work = executor(plan, load, workers)
        self._workers = workers
        with _ending(self._executor, only_by_errors=True):
            identity = self._executor.submit(self._work("identity")).result()
        self._folder = Folder(folder, plan, identity, keep_rejected=keep_rejected)

    @property
    def cells(self) -> list[Progress]:
        """How far each cell is."""
        return self._folder.cells

    @property
    def short(self) -> list[Progress]:
        """Cells that lack images after the run."""
        return [progress for progress in self.cells if progress.lacks]

    def __iter__(self) -> Iterator[Attempt]:
        with _ending(self._executor), self._folder as folder:
            for outcome in outcomes(folder.cells, self._executor, self._work("attempt"), self._workers):
                attempt = folder.keep(outcome)
                if not attempt.reason:
                    yield attempt
            samples = folder.samples()
            write_annotations(folder, samples)
            write_card(folder, samples)

    def probe(self) -> Iterator[Attempt]:
        """Yield one attempt of each cell, which is not kept."""
        with _ending(self._executor):
            for progress in self.cells:
                yield self._executor.submit(self._work("attempt"), progress.cell, 0).result().attempt


@contextmanager
def _ending(used: Executor, only_by_errors: bool = False) -> Iterator[None]:
    """End the processes of an executor with the block: what they have begun is finished, and nothing else.

    Raises:
        StoppedError: a process died.
    """
    ended = False
    try:
        yield
        ended = only_by_errors
    except BrokenExecutor as error:
        raise StoppedError(
            "a worker process ended unexpectedly, as the system does to processes if memory is short; give the same "
            "command with fewer --workers, what is finished is kept"
        ) from error
    finally:
        if not ended:
            used.shutdown(cancel_futures=True)


def outcomes(cells: list[Progress], used: Executor, attempt: Work, workers: int) -> Iterator[Outcome]:
    """Yield the attempts of each cell in their order, until no cell is open; cells are interleaved.

    A cell that lacks n images needs at least n more attempts, so up to n of them are made at a time and none in vain,
    unless its budget ends.
    """
    pending = dict[Future[Outcome], int]()
    finished = dict[tuple[int, int], Outcome]()
    while True:
        begun = Counter(pending.values()) + Counter(cell for cell, _ in finished)
        # One attempt of each of the first open cells, then further ones of these.
        first = islice((progress for progress in cells if progress.open), workers)
        wanted = [(n, p) for p in first for n in range(begun[p.cell.index], min(workers, p.lacks))]
        for n, progress in sorted(wanted, key=lambda pair: pair[0])[: workers - len(pending)]:
            pending[used.submit(attempt, progress.cell, progress.attempts + n)] = progress.cell.index
        if not pending:
            return
        for future in wait(pending, return_when=FIRST_COMPLETED).done:
            outcome = future.result()
            del pending[future]
            finished[outcome.attempt.cell, outcome.attempt.number] = outcome
        for progress in cells:
            index = progress.cell.index
            while progress.open and (index, progress.attempts) in finished:
                yield finished.pop((index, progress.attempts))
        finished = {key: outcome for key, outcome in finished.items() if cells[key[0]].open}


def dataset(
    plan: Plan, models: Models | Loader, folder: str | Path, *, workers: int = 1, keep_rejected: bool = False
) -> Dataset:
    """Return a set of annotated images, which are generated into a folder while it is iterated.

    Args:
        plan: of the cells.
        models: from `countgen.load`; with several workers a function that loads them, which can be pickled, such as
            `functools.partial(countgen.load, "miniature")`.
        folder: new, or of a run that was stopped, which is continued.
        workers: processes, each with models of its own; the set is the same for any number of them.
        keep_rejected: keep images that are not accepted in the folder `rejected`; the records say why.

    Raises:
        ValueError: bad input.
        FolderInUseError: another run writes into the folder.
    """
    if isinstance(models, Models) and workers > 1:
        raise ValueError(
            "several workers load models of their own: give a function such as partial(countgen.load, 'miniature')"
        )
    load = (lambda: models) if isinstance(models, Models) else models
    return Dataset(plan, load, folder, workers=workers, keep_rejected=keep_rejected)
