"""docs/models.md says what the code says."""

import importlib
import re

from countgen.backbones import presets
from countgen.backbones.registry import families
from countgen.backbones.sources import PIPELINES
from countgen.benchmarks.speed import model_tables
from countgen.benchmarks.speed.models import MODELS
from countgen.detector_choice import COCO, FACTS, OPEN_VOCABULARY, choose
from tests.countgen.backbones.test_contract import CASES


def test_the_tables_of_the_document_are_what_the_command_writes() -> None:
    text = model_tables.DOCUMENT.read_text("utf-8")
    assert model_tables.with_tables(text) == text
    assert text.count("<!-- table: ") == 2
    assert set(MODELS) == {name for name in presets() if not name.startswith("miniature")}


def test_the_table_of_families_names_every_class_and_preset() -> None:
    text = model_tables.DOCUMENT.read_text("utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*equals the stock one) \|$", text, re.MULTILINE))
    assert tuple(sorted(rows)) == families()
    assert {case.split()[0] for case, *_ in CASES.values()} == set(rows), "each is compared with the stock pipeline"
    for family, row in rows.items():
        classes, names, *_ = row.split(" | ")
        module = importlib.import_module(f"countgen.backbones.{family}")
        others = [name for name, of in PIPELINES.items() if of == family]
        assert re.findall(r"`(\w+)`", classes) == [module.PIPELINE, *others]
        assert set(names.split(", ")) == set(module.PRESETS)


def test_the_chosen_detectors_are_in_the_document() -> None:
    text = model_tables.DOCUMENT.read_text("utf-8")
    for choice in (choose("sdxl-turbo", ("apple",)), choose("sdxl-turbo", ("unicorn",)), choose("miniature", ())):
        critics = ", ".join(f"`{name}`" for name in choice.critics)
        assert f"| {critics} | `{choice.judge}` |" in text
    assert {*COCO[0], COCO[1], *OPEN_VOCABULARY[0], OPEN_VOCABULARY[1]} <= FACTS.keys()
