"""What the command's exit codes mean."""

OK = 0
NOT_REACHED = 1
BAD_INPUT = 2
INTERRUPTED = 130
BROKEN_PIPE = 141
"""As a shell says of a program that nobody reads any more."""
