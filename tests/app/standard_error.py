"""What a command wrote to standard error."""


def errors_in(text: str) -> list[str]:
    """Return the lines without those that are printed where models take long to load."""
    return [line for line in text.splitlines() if not line.startswith(("loading ", "loaded in "))]
