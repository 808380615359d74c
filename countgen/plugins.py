"""Find what other packages add: methods, critics, backbone families, suites and losses, by their entry points.

A package declares them in its pyproject.toml, in the groups `countgen.methods`, `countgen.critics`,
`countgen.backbones`, `countgen.suites` and `countgen.losses`. They are listed without being imported, and imported when
asked for by name.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
from collections.abc import Collection
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal

from countgen.files.printable import printable

Kind = Literal["methods", "critics", "backbones", "suites", "losses"]


class PluginError(ValueError):
    """A plug-in that cannot be imported; the message names its package and says why."""


@cache
def _points(kind: Kind) -> dict[str, tuple[EntryPoint, ...]]:
    points: dict[str, tuple[EntryPoint, ...]] = {}
    for point in entry_points(group=f"countgen.{kind}"):
        points[point.name] = (*points.get(point.name, ()), point)
    return points


def names(kind: Kind) -> tuple[str, ...]:
    """Return the names of the plug-ins of a kind, sorted; nothing is imported."""
    return tuple(sorted(_points(kind)))


def check_name(what: str, name: str, known: Collection[str]) -> None:
    """Raise a ValueError that lists similar and available names, if a name is unknown."""
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"unknown {what} {name!r}.{hint} Available: {printable(', '.join(known) or 'none', 500)}")


def load(kind: Kind, name: str) -> Any:
    """Import the plug-in of a name; a PluginError if it cannot be imported or several packages declare the name."""
    point = _point(kind, name)
    try:
        return point.load()
    except Exception as error:  # whatever the package raises while it is imported
        raise PluginError(
            f"{printable(name)} of the package {_package(point)} cannot be imported from {point.value}: "
            f"{type(error).__name__}: {printable(error, 200)}; update that package or uninstall it"
        ) from error


def provenance(kind: Kind, name: str) -> str | None:
    """Return a plug-in's package, version and a digest of the package's Python files; None if `name` is none.

    Records that were made with other code than this are told apart by it. Nothing is imported.
    """
    if name not in _points(kind):
        return None
    point = _point(kind, name)
    spec = importlib.util.find_spec(point.module.partition(".")[0])
    folders = (spec.submodule_search_locations if spec else None) or []
    files = [file for folder in folders for file in sorted(Path(folder).rglob("*.py"))]
    if not files and spec is not None and spec.origin:
        files = [Path(spec.origin)]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return f"{name} of {_package(point)}, {digest.hexdigest()[:12]}"


def _point(kind: Kind, name: str) -> EntryPoint:
    points = _points(kind)[name]
    packages = sorted({_package(point) for point in points})
    if len(packages) > 1:
        raise PluginError(f"{printable(name)} is declared by {' and '.join(packages)}; uninstall one of them")
    return points[0]


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "unknown"
