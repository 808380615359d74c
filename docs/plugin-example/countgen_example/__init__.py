"""Plug-ins of countgen, as an example."""
