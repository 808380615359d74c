"""Tokens with the input vectors of words, without training."""

from countgen.tokens.file import CountToken
from countgen.tokens.textual_inversion import word_vectors

FIELDS = {
    "revision": None,
    "object_names": ("apple", "dog"),
    "critic": "miniature-yolo",
    "config_hash": "0123456789abcdef",
    "accuracy": 0.5,
    "licence": "Apache-2.0",
}


def token_of(backbone, text="seven of", count=7, **changes):
    """Return a token that stands for a count with the vectors of a text."""
    fields = {
        "placeholder_token": f"<count-{count}>",
        "target_count": count,
        "vectors": word_vectors(backbone, text),
        "base_model": backbone.name,
    }
    return CountToken(**(FIELDS | fields | changes))
