"""Engines that generate the cases of a run: this process, or the workers of a Ray cluster."""
