"""A finished set, made once from a plan with every kind of group."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from countgen.datasets import Group, Plan, dataset

if TYPE_CHECKING:
    import countgen

PLAN = Plan(
    groups=(
        Group(objects={"apple": "1-3"}, images=2),
        Group(objects={"cat": 1, "apple": 1}, templates=("a photo of {objects}", "{objects} on a table")),
        Group(objects={"ball": 2}, negative=True, images=2),
    ),
    splits={"train": 0.5, "val": 0.5},
)


@pytest.fixture(scope="session")
def finished(light_models: "countgen.Models", tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets") / "set"
    images = dataset(PLAN, light_models, folder)
    assert len(list(images)) == PLAN.number_of_images
    assert images.short == []
    return folder
