"""Methods: one file each, found by file name; `countgen.Run` takes them by name."""

from countgen.methods.registry import available, load

__all__ = ["DEFAULT_SURE", "available", "load"]

DEFAULT_SURE = 0.98
"""Probability of a right count from which on it is confirmed."""
