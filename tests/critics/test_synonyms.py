"""Object names in other words than the detector's."""

import pytest

from countgen.critics.vocabulary import SYNONYMS, resolve, singular, spellings

pytestmark = pytest.mark.core

COCO = ("person", "airplane", "sports ball", "dog", "donut", "couch", "dining table", "tv", "cell phone", "skis")


ASKED = [
    ("sofas", "couch"),
    ("aeroplanes", "airplane"),
    ("planes", "airplane"),
    ("puppies", "dog"),
    ("doughnuts", "donut"),
    ("television", "tv"),
    ("mobile phones", "cell phone"),
    ("balls", "sports ball"),
    ("people", "person"),
    ("women", "person"),
    ("tables", "dining table"),
]


def test_a_synonym_finds_the_detectors_own_word(subtests: pytest.Subtests) -> None:
    for asked, expected in ASKED:
        with subtests.test(asked=asked):
            assert COCO[resolve(asked, COCO, "yolo")] == expected


def test_a_class_of_that_very_name_comes_before_a_synonym() -> None:
    assert resolve("balls", ("sports ball", "ball"), "yolo") == 1


def test_the_synonyms_are_singular_and_none_stands_in_two_groups() -> None:
    words = [word for group in SYNONYMS for word in group]
    assert len(words) == len(set(words))
    assert [word for word in words if singular(word) != word] == []


@pytest.mark.parametrize("asked", ["zebra", "sofa bed", "tvs stand"])
def test_what_is_no_synonym_is_refused(asked: str) -> None:
    with pytest.raises(ValueError, match="has no class for"):
        resolve(asked, COCO, "yolo")


def test_every_spelling_finds_the_class_that_resolve_finds() -> None:
    found = spellings(COCO)
    assert {word: COCO[resolve(word, COCO, "yolo")] for word in found} == found
    assert found["puppy"] == "dog"
    assert spellings(["sports ball", "ball"])["ball"] == "ball"
