"""Experiments whose answers stand in the documents; not part of the installed package."""
