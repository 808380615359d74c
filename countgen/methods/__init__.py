"""Methods: one file each, found by file name; plug-ins of other packages beside them."""

from countgen.methods.registry import MethodFunction, available, load, name_of

__all__ = ["MethodFunction", "available", "load", "name_of"]
