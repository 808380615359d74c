"""Compute the same bits for the same input, whatever the number of threads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

Item = TypeVar("Item")


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Compute on one CPU thread with PyTorch's deterministic algorithms; the process's own settings return afterwards.

    An operation of a GPU that has no deterministic algorithm warns and runs.

    Args:
        wanted: False to change nothing.
    """
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS needs it, and reads it at its first use
    threads = torch.get_num_threads()
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)


def each_deterministic(items: Iterable[Item], wanted: bool) -> Iterator[Item]:
    """Yield items that are computed as in `deterministic`; the caller's code between them is not."""
    iterator = iter(items)
    while True:
        with deterministic(wanted):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item
