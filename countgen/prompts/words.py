"""Split a prompt into lower-case words and signs, and reject signs that change the value of a number."""

from __future__ import annotations

import re
import unicodedata

from countgen.errors import PromptError
from countgen.prompts.number_words import read_number, word_at

Span = tuple[int, int]
"""Start and end of some characters in a text."""

ODD_NUMBER = re.compile(r"[-+−]?\d+([-./⁄+–~]\d*)+|[-+−]\d+|\d+e\d+")
"""Text that resembles a number but is not a whole number above zero: "3.5", "-3", "3-5", "1e3"."""

_NOT_COUNTS = re.compile(
    r"""
      --\w+(?:\s+[\d.:]+)?                        # options of other programs: "--ar 16:9"
    | [#@]\S*                                    # "#4983725", "#sunset"
    | [$€£¥₹]\s?\d[\d.,]*                        # prices
    | \bf\s?/\s?\d+(?:\.\d+)?                    # apertures: "f/1.8"
    | \b[^\W\d]\w*\d\.\d+                        # versions: "v1.5"
    | \d+(?:\.\d+)?:\d+(?:\.\d+)?                # ratios and times: "16:9", "10:30"
    | \d{3,}\s?[x×]\s?\d{3,}                     # sizes: "1920 x 1080"
    | \b[\w-]+[ -](?:year|month|week|day)s?[ -]olds?\b
    | \b\d+(?:[.,]\d+)?\s?(?:k|mm|cm|km|kg|mp|px|fps|dpi|k?hz|ghz|[ap]m)\b
    | \b\d{1,2}\s(?:january|february|march|april|may|june|july|august|september|october|november|december)\b
    """,
    re.VERBOSE,
)
"""Parts of a prompt whose numbers count nothing."""

_WORD = re.compile(
    r"\d{1,3}(?:,\d{3})+(?!\d)|[-+−]?\d(?:[\w⁄+–~-]|[./](?=\w))*|[^\W\d][\w'’-]*|[<>=≤≥≈≃≅≠±√∛%‰°]|[,;:&+.!?()/–—~-]"
)
_SIGNS = frozenset("<>=≤≥≈≃≅≠±√∛%‰°~")
"""Signs that change the number next to them: "≥ 3 cats", "7% apples"; ignored elsewhere."""
_LEADING_DASH = re.compile(r"(?<!\w)[–—](?=\d)")
_QUOTED = re.compile(r"(?<!\w)['‘]([^'’]*)['’](?!\w)")
_WEIGHTED = re.compile(r"\([^()]*[^\d()\s]\s*:\s*\d*\.?\d+\s*\)|<[a-z]+:[^<>]*>", re.IGNORECASE)
"""Weights in prompts of Stable Diffusion UIs: "(apples:1.3)", "<lora:style:0.8>"."""
_CHARACTER = re.compile(r".[\u0300-\u036f]*", re.DOTALL)
_STRUCK = re.compile(r"\d[\u0300-\u036f]")
OVERRIDE = 'give the count with targets_from("apple=7"), on the command line --count apple=7'
"""Advice for a prompt without a number."""


def unreadable(prompt: str, reason: str) -> PromptError:
    """Return the error for a prompt that does not give one count for each object."""
    return PromptError(f"cannot read a count from {prompt!r}: {reason}")


def words_of(prompt: str) -> tuple[list[str], list[Span]]:
    """Return the words and signs of a prompt in lower case, without parts whose numbers count nothing ("16:9").

    Returns:
        The words, and the characters of the prompt that each stands for.

    Raises:
        PromptError: a weight of other programs ("(apples:1.3)"); a number that is not written in words or plain
            digits ("2²", "½", "⑦", "1٣"), or one next to a sign that changes it ("≥3", "7%", "- 3").
    """
    if weighted := _WEIGHTED.search(prompt):
        raise unreadable(prompt, f"{weighted[0]!r} is a prompt weight, which is not supported; write the words alone")
    _check_digits(prompt)
    # Typographic forms (full-width digits, ligatures, non-breaking hyphens) become the plain ones.
    forms = [(unicodedata.normalize("NFKC", match[0]).lower(), match.start()) for match in _CHARACTER.finditer(prompt)]
    starts = [*(start for form, start in forms for _ in form), len(prompt)]
    text = "".join(form for form, _ in forms).replace("\u2010", "-")
    # Every replacement keeps the length of the text.
    text = _QUOTED.sub(r" \1 ", _LEADING_DASH.sub("-", text))
    text = _NOT_COUNTS.sub(lambda match: " " * len(match[0]), text)
    words, spans = [], []
    for match in _WORD.finditer(text):
        # A number keeps its hyphen, which marks a range.
        word = match[0] if match[0][0].isdecimal() else match[0].rstrip("-") or match[0]
        words.append(word)
        spans.append((starts[match.start()], starts[match.start() + len(word)]))
    kept = []
    for at, word in enumerate(words):
        before, behind = word_at(words, at - 1), word_at(words, at + 1)
        minus = word in ("-", "–", "—") and not at
        if (word in _SIGNS or minus) and read_number(words, at + 1):
            raise unreadable(prompt, f"'{word} {behind}' has several readings; give one number")
        if word in _SIGNS - {"~"}:
            if before and read_number([before], 0):
                raise unreadable(prompt, f"'{before}{word}' is not one whole number above zero")
            continue
        kept.append(at)
    return [words[at] for at in kept], [spans[at] for at in kept]


def _check_digits(prompt: str) -> None:
    """Raise for digits whose plain form reads as another number: "2²" would be 22, "1½" 11/2."""
    for chunk in prompt.split():
        # A sign after a letter ("20 m²", "H₂O") is part of that word.
        pairs = zip(" " + chunk, chunk, strict=False)
        is_sign = any(unicodedata.category(sign) in ("No", "Nl") and not before.isalpha() for before, sign in pairs)
        plain = unicodedata.normalize("NFKC", chunk)
        zeros = {ord(character) - unicodedata.decimal(character) for character in plain if character.isdecimal()}
        if is_sign or len(zeros) > 1 or _STRUCK.search(chunk):
            raise unreadable(prompt, f"{chunk!r} is not one whole number above zero; write words or plain digits")
