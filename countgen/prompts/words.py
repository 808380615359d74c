"""Split a prompt into lower-case words and signs, and reject signs that change the value of a number."""

from __future__ import annotations

import re
import unicodedata

from countgen.errors import PromptError
from countgen.prompts.noun_phrase import MEDIUMS, SEPARATORS
from countgen.prompts.number_words import read_number

ODD_NUMBER = re.compile(r"[-+−]?\d+([-./⁄+–~]\d*)+|[-+−]\d+|\d+e\d+")
"""Text that resembles a number but is not a whole number above zero: "3.5", "-3", "3-5", "1e3"."""

_WORD = re.compile(
    r"\d{1,3}(?:,\d{3})+(?!\d)|[-+−]?\d[\w./⁄+–~-]*|[^\W\d][\w'’-]*|[<>=≤≥≈≃≅≠±√∛%‰°$€£¥₹#]|[,;:&+.!?()/–—~-]"
)
_SIGNS = frozenset("<>=≤≥≈≃≅≠±√∛%‰°$€£¥₹#~")
"""Signs that change the number next to them: "≥ 3 cats", "7% apples", "$7 apples"; ignored elsewhere."""
_LEADING_DASH = re.compile(r"(?<!\w)[–—](?=\d)")
_QUOTED = re.compile(r"(?<!\w)['‘]([^'’]*)['’](?!\w)")
_WEIGHTED = re.compile(r"\([^()]*[^\d()\s]\s*:\s*\d*\.?\d+\s*\)|<[a-z]+:[^<>]*>", re.IGNORECASE)
"""Weights in prompts of Stable Diffusion UIs: "(apples:1.3)", "<lora:style:0.8>"."""
_STRUCK = re.compile(r"\d[\u0300-\u036f]")


def unreadable(prompt: str, reason: str) -> PromptError:
    """Return the error for a prompt that does not give one count for each object."""
    return PromptError(f"cannot read a count from {prompt!r}: {reason}")


def words_of(prompt: str) -> list[str]:
    """Return the words and punctuation marks of a prompt, in lower case, without a lead such as "a photo of".

    Raises:
        PromptError: a weight of other programs ("(apples:1.3)"); a number that is not written in words or plain
            digits ("2²", "½", "⑦", "1٣"), or one next to a sign that changes it ("≥3", "7%", "- 3").
    """
    _check_weights(prompt)
    _check_digits(prompt)
    # Typographic forms (full-width digits, ligatures, non-breaking hyphens) become the plain ones.
    text = unicodedata.normalize("NFKC", prompt).lower().replace("\u2010", "-")
    text = _QUOTED.sub(r" \1 ", _LEADING_DASH.sub("-", text))
    words = [_stripped(word) for word in _WORD.findall(text)]
    kept = []
    for at, word in enumerate(words):
        before, behind = words[at - 1] if at else "", words[at + 1] if at + 1 < len(words) else ""
        minus = word in ("-", "–", "—") and not at
        if (word in _SIGNS or minus) and behind and read_number(words, at + 1):
            raise unreadable(prompt, f"'{word} {behind}' has several readings; give one number")
        if word in _SIGNS - {"~"}:
            if before and read_number([before], 0):
                raise unreadable(prompt, f"'{before}{word}' is not one whole number above zero")
            continue
        kept.append(word)
    return _without_lead(kept)


def _check_weights(prompt: str) -> None:
    """Raise for weights of words and LoRAs, which the models here read as text."""
    if weighted := _WEIGHTED.search(prompt):
        raise unreadable(prompt, f"{weighted[0]!r} is a weight, which is not read here; write the words alone")


def _check_digits(prompt: str) -> None:
    """Raise for digits whose plain form reads as another number: "2²" would be 22, "1½" 11/2."""
    for chunk in prompt.split():
        for at, character in enumerate(chunk):
            # A sign after a letter ("20 m²", "H₂O") is part of that word.
            if unicodedata.category(character) in ("No", "Nl") and not (at and chunk[at - 1].isalpha()):
                raise unreadable(prompt, f"{chunk!r} is not one whole number above zero; write words or plain digits")
        plain = unicodedata.normalize("NFKC", chunk)
        zeros = {ord(character) - unicodedata.decimal(character) for character in plain if character.isdecimal()}
        if len(zeros) > 1 or _STRUCK.search(chunk):
            raise unreadable(prompt, f"{chunk!r} is not one whole number above zero; write words or plain digits")


def _stripped(word: str) -> str:
    """Return a word without the full stop or hyphen after it; a number keeps its hyphen, which marks a range."""
    return word.rstrip("." if word[0].isdecimal() else ".-") or word


def _without_lead(words: list[str]) -> list[str]:
    """Drop "a photo of", "an oil painting showing" and the like; "three images of cats" stays."""
    for at, word in enumerate(words[:6]):
        if at and (word in SEPARATORS or read_number(words, at)):
            break
        if word in MEDIUMS and words[at + 1 : at + 2] and words[at + 1] in ("of", "showing", "depicting", "with"):
            return words[at + 2 :]
        if at == 0 and word not in ("a", "an", "one") and read_number(words, 0):
            break
    return words
