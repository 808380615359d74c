"""The evaluator, the speed benchmark and the training of the embedded models."""
