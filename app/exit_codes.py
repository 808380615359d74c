"""What the command's exit codes mean."""

OK = 0
NOT_REACHED = 1
BAD_INPUT = 2
INTERRUPTED = 130
