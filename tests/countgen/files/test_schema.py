import json
import math

import pytest

from countgen.files.schema import Document, Whole, converted, decoded, encoded

pytestmark = pytest.mark.core


class Example(Document, frozen=True):
    name: str
    counts: tuple[Whole, ...] = ()


GOOD = {"name": "a", "counts": [1, 2]}
DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("7", "Expected `object`, got `int`"),
        ('{"counts": []}', "required field `name`"),
        ('{"name": "a", "x": 1}', "unknown field `x`"),
        ('{"name": "a", "counts": [1, true]}', r"counts\[1\]: Expected `int`, got `bool`"),
        ('{"name": "a", "counts": [-1]}', r"counts\[0\]: Expected `int` >= 0"),
        ('{"name": NaN}', "malformed"),
        ('{"name": "\\ud800 and more"}', "surrogate"),
        (b'{"name": "\xff"}', "UTF-8"),
        ('{"name": "a", "counts": ' + DEEP, r"counts\[0\]: Expected"),
    ],
)
def test_what_a_schema_does_not_accept_is_one_sentence_that_names_the_field(data: str | bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as error:
        decoded(data, Example)
    assert str(error.value).isprintable()
    with pytest.raises(ValueError, match="nested too deeply"):
        decoded(DEEP, object)


def test_a_document_survives_writing_and_reading() -> None:
    document = decoded(json.dumps(GOOD), Example)
    assert converted(GOOD, Example) == document == decoded(encoded(document), Example)


@pytest.mark.parametrize("value", [math.nan, math.inf, "\ud800"])
def test_what_cannot_be_read_back_is_not_written(value: object) -> None:
    with pytest.raises(ValueError, match=r"JSON compliant|surrogates"):
        encoded({"a": value})
