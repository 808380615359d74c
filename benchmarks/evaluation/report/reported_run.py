"""Read a run for a report: its folder or the folders of its shards, with later judges and people's labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from countgen.benchmarks.evaluation.image_files import lost_images
from countgen.benchmarks.evaluation.judgements import of_people, read_judgements, with_judgements
from countgen.benchmarks.evaluation.labels import read_labels
from countgen.benchmarks.evaluation.records import IMAGES, PACKED, Record, differing_settings, read_run
from countgen.files.folder import readable_path


@dataclass(frozen=True)
class ReportedRun:
    """The records of a run, and the folders of its images.

    Attributes:
        name: of its first folder.
        settings: of the run.
        records: by method in the order of the run, then by key, so that the report does not depend on the order of
            generation.
        folders: of the images of each record, by key.
        stray: number of labels and later judgements of images that the run does not have, by folder.
    """

    name: str
    settings: Mapping[str, Any]
    records: tuple[Record, ...]
    folders: Mapping[str, Path]
    stray: Mapping[Path, int] = field(default_factory=dict)

    def image_path(self, record: Record, before: bool = False) -> Path | None:
        """Return the path of a record's image; None if it is missing or outside the run's folder."""
        name = record.before if before else record.image
        return None if name is None else readable_path(self.folders[record.key], name)

    def lost(self) -> dict[Path, list[str]]:
        """Return the images that are missing or incomplete, by folder; folders without images are left out.

        A run with compressed records holds some of its images, or none.
        """
        lost = {}
        for folder in dict.fromkeys(self.folders.values()):
            if (folder / IMAGES).is_dir() and not (folder / PACKED).exists():
                records = [record for record in self.records if self.folders[record.key] == folder]
                lost[folder] = list(chain.from_iterable(lost_images(folder, records).values()))
        return {folder: names for folder, names in lost.items() if names}


def shards_of_one_run(first: Path, second: Path) -> bool:
    """Return whether two folders hold different shards of one run.

    Raises:
        ValueError: a folder that is not a run.
    """
    return differing_settings(read_run(first)[0], read_run(second)[0]) == ["shard"]


def read_reported_run(folders: Sequence[str | Path]) -> ReportedRun:
    """Read a run, or the shards of one.

    Raises:
        ValueError: no folder, one that is not a run, folders of different runs, or no records in any.
    """
    settings: dict[str, Any] = {}
    records: dict[str, Record] = {}
    where: dict[str, Path] = {}
    stray: dict[Path, int] = {}
    for folder in map(Path, folders):
        own_settings, own_records = read_run(folder)
        settings = settings or own_settings
        differing = [name for name in differing_settings(settings, own_settings) if name != "shard"]
        if differing:
            raise ValueError(
                f"{folders[0]} and {folder} are not shards of one run: {', '.join(differing)} differ; "
                "two runs can be compared"
            )
        judgements = [*read_judgements(folder), *of_people(read_labels(folder))]
        judged = {record.key: record for record in with_judgements(own_records, judgements)}
        records.update(judged)
        where.update(dict.fromkeys(judged, folder))
        if number := sum(judgement.key not in judged for judgement in judgements):
            stray[folder] = number
    if not records:
        raise ValueError(f"{', '.join(map(str, folders))}: no records yet, so there is nothing to report")
    order = {name: place for place, name in enumerate(settings.get("methods", ()))}
    ordered = sorted(records.values(), key=lambda r: (order.get(r.method, len(order)), r.method, r.key))
    return ReportedRun(Path(folders[0]).resolve().name, settings, tuple(ordered), where, stray)
