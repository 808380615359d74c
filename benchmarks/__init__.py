"""Metrics, statistics and reports over `countgen` and `critics`."""
