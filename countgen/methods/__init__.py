"""The ways to a right count, by the names they have everywhere; nothing heavy is imported for them."""

from __future__ import annotations

METHODS = ("plain", "search", "noise", "lmn", "auto", "token", "token+noise")
"""What each does is in `countgen.Run`."""

NEEDS_TOKEN = ("token", "token+noise")
