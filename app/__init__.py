"""The faces: the `countgen` command and the demo."""
