"""Exit codes of the command."""

OK = 0
NOT_REACHED = 1
BAD_INPUT = 2
INTERRUPTED = 130
BROKEN_PIPE = 141
"""The exit code that a shell reports for SIGPIPE: the reader of the output has closed it."""
