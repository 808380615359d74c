"""Methods: one file each, found by file name; `countgen.Run` takes them by name."""

from countgen.methods.registry import available, load

__all__ = ["available", "load"]
