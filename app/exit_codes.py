"""Exit codes of the `countgen` command; `countgen --help` says what they mean."""

OK = 0
NOT_REACHED = 1
BAD_INPUT = 2
INTERRUPTED = 130
BROKEN_PIPE = 141
"""What a shell reports for a process that SIGPIPE ended."""
