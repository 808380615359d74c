"""The evaluator, the speed benchmark and the studies of `countgen` and `critics`."""
