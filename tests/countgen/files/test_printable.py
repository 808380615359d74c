import pytest

from countgen.files.printable import MAX_LINE, printable

pytestmark = pytest.mark.core


def test_control_characters_are_escaped_and_long_texts_shortened_in_the_middle() -> None:
    shown = {"äpfel 🍎 - fine": "äpfel 🍎 - fine", "a\x1b[31mred": r"a\x1b[31mred", "a\nb\tc\\": "a\\nb\\tc\\"}
    shown |= {"\u202e\u2028\udcff": r"\u202e\u2028\udcff", 7: "7"}
    assert {text: printable(text) for text in shown} == shown
    assert printable("0123456789" * 10**6, 11) == "01234…56789"
    assert len(printable("\x00" * 10**6)) <= MAX_LINE + 1
