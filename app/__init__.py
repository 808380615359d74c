"""User interfaces: the `countgen` command and the demo."""
