from pathlib import Path

import pytest

from countgen.files.spreadsheet import cell, read_table

pytestmark = pytest.mark.core


def test_formulas_become_text_and_numbers_stay() -> None:
    for text in ("=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1"):
        assert cell(text).startswith("'")
    for text in ("-3", "+2.5", "7", "apple", "images/a.png", ""):
        assert cell(text) == text
    assert cell("a\x1b[31m.png") == r"a\x1b[31m.png"


@pytest.mark.parametrize("separator", ",;\t")
def test_cells_are_read_by_column_with_their_line(separator: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("\ufeffa,b,c\r\n1, x ,\r\n\r\n2\r\n".replace(",", separator).encode())
    header, rows = read_table(path, ("x",), ("b", "a"))
    assert header == ["a", "b", "c"]
    assert list(rows) == [
        (f"{path}, line 2", {"a": "1", "b": "x", "c": ""}),
        (f"{path}, line 4", {"a": "2", "b": "", "c": ""}),
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "line 1: expected the columns a; got none"),
        (b"x,y\n", "line 1: expected the columns a; got x, y"),
        (b"a\n1,2\n", "line 2: more cells than the header has"),
        (b'a\n"1\n', "line 2: unexpected end"),
        (b"a\n\xff\n", "is not UTF-8 text"),
    ],
)
def test_another_table_is_an_error_with_its_line(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        list(read_table(path, ("a",))[1])
