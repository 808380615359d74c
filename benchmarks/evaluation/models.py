"""The models and detectors of a run: what the command names, what records call it, and what is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import hf_hub_download

from countgen import miniature
from countgen.backbones.model_files import digest
from countgen.backbones.registry import presets
from countgen.backbones.sources import find_source
from countgen.benchmarks.evaluation.suites import load
from countgen.detector_choice import AUTO, choose
from countgen.files.hub import at_revision, is_commit
from countgen.models import parts_of


def recorded_model(model: str) -> tuple[str, str]:
    """Return what records call a model, and what loads the same weights again.

    A preset has its own name. A folder or file is called by its name and the first digits of a digest of its weights, a
    repository on the hub by its commit.

    Raises:
        ValueError, OSError: as `countgen.backbones.sources.find_source`.
    """
    known = presets()
    if model in known:
        return model, model
    source = find_source(model)
    if source.preset.remote:
        return source.name, model
    repository, revision = source.preset.repository, source.preset.revision
    if source.name in known and source.preset == known[source.name][1]:
        return source.name, source.name
    path = Path(repository)
    if path.exists():
        return f"{source.name}-{digest(path)[:8]}", str(path.resolve())
    commit = revision
    if not is_commit(commit):  # a branch is at the commit that the hub or its cache names
        commit = Path(hf_hub_download(repository, "model_index.json", revision=revision)).parent.name
    return f"{source.name}@{commit}", f"{at_revision(model)[0]}@{commit}"


def run_detectors(
    backbones: Sequence[str], suite: str, critics: Sequence[str] | None, judges: Sequence[str] | None
) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """Return critics and judges of a run, and why those that the user did not name.

    Embedded models have detectors of their own, and every one that does not steer judges. For other models what the
    suite counts decides, as in `countgen.detector_choice.choose`.

    Args:
        backbones: names in records.
        suite: as of `countgen.benchmarks.evaluation.suites.load`.
        critics, judges: that the user named.

    Raises:
        ValueError: no such suite, or a judge that steers.
    """
    others = [name for name in backbones if not name.startswith("miniature")]
    if not others:
        steering = tuple(critics or miniature.CRITICS)
        taken = {part for name in steering for part in parts_of(name)}
        free = dict.fromkeys(name for name in (miniature.JUDGE, *miniature.DETECTORS) if name not in taken)
        return steering, tuple(judges or free), ""
    objects = list(dict.fromkeys(target.object_name for prompt in load(suite) for target in prompt.targets))
    choice = choose(others[0], objects, critics, judges[0] if judges else AUTO)
    return choice.critics, tuple(judges or choice.names[-1:]), choice.described if choice.because else ""
