"""The settings of a small run, of three prompts and four methods."""

from dataclasses import replace

import pytest

from countgen.benchmarks.evaluation.plan import RunSettings, suite_digest
from tests.faults.crash_consistency import settings


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("suite") / "mine.txt"
    path.write_text("two apples\na photo of three cats and two dogs\nfour unicorns\n")
    return str(path)


@pytest.fixture(scope="module")
def asked(suite: str) -> RunSettings:
    return replace(
        settings(1),
        suite=suite,
        suite_sha256=suite_digest(suite),
        limit=None,
        methods=("plain", "search", "noise", "plain+as-written"),
        max_evaluations=6,
        first_seed=5,
    )
