"""Every repository that a preset names is read at a commit, or listed as not pinned."""

from pathlib import Path

import pytest

from countgen.backbones import presets
from countgen.critics import ultralytics_files
from countgen.critics.detectors import detr, grounding_dino, owl, sam3
from countgen.files.hub import at_revision, is_commit

LISTED = Path("SECURITY.md").read_text("utf-8").split("## What is not pinned")[1].split("\n## ")[0]


def named() -> dict[str, str | None]:
    """Return the repositories that presets name, with their revisions."""
    revisions: dict[str, str | None] = {}
    for _, preset in presets().values():
        if not Path(preset.repository).exists():
            revisions[preset.repository] = preset.revision
        for component in (preset.vae, preset.denoiser, preset.tiny_vae):
            if component is not None and not Path(component).exists():
                name, revision = at_revision(component)
                revisions["/".join(name.split("/")[:2])] = revision
    for detectors in (detr, grounding_dino, owl, sam3):
        for repository in detectors.PRESETS.values():
            name, _, revision = repository.partition("@")
            revisions[name] = revision or None
    for file in ultralytics_files.PRESETS.values():
        revisions[file.rpartition("/")[0]] = None
    return revisions


def test_a_repository_is_read_at_a_commit_or_listed(subtests: pytest.Subtests) -> None:
    for repository, revision in named().items():
        with subtests.test(repository=repository):
            assert is_commit(revision) != (repository in LISTED)
            assert is_commit(revision) or revision is None or f"`{revision}`, which is a branch" in LISTED
