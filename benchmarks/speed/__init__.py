"""The paired benchmark of optimisation loops."""
