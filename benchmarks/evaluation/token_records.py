"""The committed records of count tokens, which `countgen tokens` and the study of tokens read."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from statistics import fmean

from msgspec.structs import replace

from countgen.files.reading import read_bytes
from countgen.files.schema import Document, decoded
from countgen.tokens.file import CountToken

MAX_BYTES = 2**20
RECORDS = Path(__file__).parents[1] / "results" / "tokens.jsonl.gz"


class TokenRecord(Document, frozen=True):
    """One object, count and seed, generated with every method.

    Attributes:
        count, object_name, seed: the case.
        group: "learned" or "unseen", of the object.
        counted: the judge's count, by method.
        confidence: the judge's mean class probability of what it counted, by method; 0 where it counted nothing.
        token: SHA-256 of the vectors of the token that was measured; "" where none was.
    """

    count: int
    object_name: str
    seed: int
    group: str
    counted: dict[str, int]
    confidence: dict[str, float]
    token: str = ""


def records_of(token: CountToken) -> list[TokenRecord]:
    """Return the records of a shipped token."""
    return [record for record in read(RECORDS) if record.token == token.sha256]


@cache
def read(path: Path) -> tuple[TokenRecord, ...]:
    """Return the records in a file, one for each case; lines of several methods are merged."""
    cases: dict[tuple[int, str, int], TokenRecord] = {}
    lines = gzip.decompress(read_bytes(path, MAX_BYTES)).splitlines() if path.exists() else []
    for line in lines:
        record = decoded(line, TokenRecord)
        case = cases.setdefault((record.count, record.object_name, record.seed), record)
        case.counted.update(record.counted)
        case.confidence.update(record.confidence)
        cases[record.count, record.object_name, record.seed] = replace(case, token=case.token or record.token)
    return tuple(cases.values())


def plain_accuracy(records: Sequence[TokenRecord], count: int) -> tuple[float, bool]:
    """Return the plain prompt's accuracy at a count, and whether the token gives the same image in every case."""
    cases = [record for record in records if record.count == count]
    alike = all(by_method["plain"] == by_method["token"] for r in cases for by_method in (r.counted, r.confidence))
    return fmean(record.counted["plain"] == record.count for record in cases), alike
