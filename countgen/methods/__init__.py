"""Methods: one file each, found by file name; plug-ins of other packages beside them."""

from countgen.methods.registry import MethodFunction, available, load, name_of, seeds_only

__all__ = ["DEFAULT_SURE", "MethodFunction", "available", "load", "name_of", "seeds_only"]

DEFAULT_SURE = 0.98
"""Probability of a right count from which on it is confirmed."""
