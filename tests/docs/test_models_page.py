"""The tables of docs/models.md name what the code offers."""

import importlib
import re

from countgen.backbones import presets
from countgen.backbones.registry import families
from countgen.backbones.sources import PIPELINES
from countgen.detector_choice import choose
from tests.docs.documents import ROOT

PAGE = (ROOT / "docs" / "models.md").read_text("utf-8")


def rows(header: str) -> list[list[str]]:
    """Return the cells of the table below a header row."""
    table = PAGE.split(f"\n| {header} |")[1].split("\n\n")[0].splitlines()[2:]
    return [line.strip("| ").split(" | ") for line in table]


def test_every_family_is_listed_with_its_classes_and_presets() -> None:
    listed = {row[0].strip("`"): row for row in rows("family")}
    assert sorted(listed) == sorted(families())
    for family, (_, classes, names, *_) in listed.items():
        module = importlib.import_module(f"countgen.backbones.{family}")
        others = [name for name, owner in PIPELINES.items() if owner == family]
        assert re.findall(r"`(\w+)`", classes) == [module.PIPELINE, *others]
        assert set(names.split(", ")) == set(module.PRESETS)


def test_every_published_preset_is_listed_with_licence_steps_and_pixels() -> None:
    listed = {name: row[1:] for row in rows("preset") for name in row[0].split(", ")}
    published = {name: preset for name, (_, preset) in presets().items() if not name.startswith("miniature")}
    assert listed == {
        name: [preset.licence, f"{preset.num_inference_steps}, {preset.width}x{preset.height}"]
        for name, preset in published.items()
    }


def test_the_chosen_detectors_are_listed() -> None:
    listed = [row[1:] for row in rows("objects")]
    for choice in (choose("miniature", ()), choose("sdxl-turbo", ("apple",)), choose("sdxl-turbo", ("unicorn",))):
        assert [", ".join(f"`{name}`" for name in choice.critics), f"`{choice.judge}`"] in listed
