"""The golden set."""

from pathlib import Path

FOLDER = Path(__file__).parents[1] / "golden"
