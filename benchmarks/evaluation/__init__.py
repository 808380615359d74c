"""The evaluator that `countgen eval`, `countgen report` and `countgen label` run."""
