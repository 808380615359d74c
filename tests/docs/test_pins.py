"""Every repository that a preset names is read at a commit, or listed as not pinned."""

from pathlib import Path

import pytest

from countgen.backbones import presets
from countgen.backbones.hub import at_revision, is_commit
from countgen.critics import ultralytics_files
from countgen.critics.detectors import detr, grounding_dino, owl, sam3, yolo_world

LISTED = Path("SECURITY.md").read_text("utf-8").split("## What is not pinned")[1].split("\n## ")[0]


def named() -> dict[str, str | None]:
    """Repositories with their revisions."""
    found: dict[str, str | None] = {}
    for _, preset in presets().values():
        if not Path(preset.repository).exists():
            found[preset.repository] = preset.revision
        for part in (preset.vae, preset.denoiser, preset.tiny_vae):
            if part is not None:
                name, revision = at_revision(part)
                found["/".join(name.split("/")[:2])] = revision
    for detectors in (detr, grounding_dino, owl, sam3, yolo_world):
        for repository in detectors.PRESETS.values():
            name, _, revision = repository.partition("@")
            found[name] = revision or None
    for file in ultralytics_files.PRESETS.values():
        found[file.rpartition("/")[0]] = None
    return found


def test_a_repository_is_read_at_a_commit_or_listed(subtests: pytest.Subtests) -> None:
    for repository, revision in named().items():
        with subtests.test(repository=repository):
            assert is_commit(revision) != (repository in LISTED)
            if not is_commit(revision) and revision is not None:
                assert f"`{revision}`, which is a branch" in LISTED
