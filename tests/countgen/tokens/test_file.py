"""Token files: round trips, and errors for everything else."""

import json
import math
import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load, load_file, save, save_file

from countgen.errors import TokenFileError
from countgen.tokens.file import MAX_FILE_BYTES, CountToken, decoded, encoded, load_token, save_token
from tests.countgen.tokens.examples import FIELDS

pytestmark = pytest.mark.core


_GENERATOR = torch.Generator().manual_seed(0)
TOKEN = CountToken(
    placeholder_token="<count-7>",
    target_count=7,
    base_model="sdxl-turbo",
    vectors={key: torch.randn(2, dim, generator=_GENERATOR) for key, dim in (("clip_l", 16), ("clip_g", 24))},
    **FIELDS,
)


def header_of(data):
    """Return the header of a file, and the fields of the token in its metadata."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return header, json.loads(header.pop("__metadata__")["countgen"])


def test_a_saved_token_is_loaded_unchanged_and_equal_tokens_give_equal_bytes(tmp_path):
    path = save_token(TOKEN, tmp_path / "count-7.safetensors")
    loaded = load_token(path)
    assert path.read_bytes() == encoded(loaded)
    assert path.read_bytes() == encoded(replace(TOKEN, vectors=dict(reversed(TOKEN.vectors.items()))))
    assert loaded.sha256 == TOKEN.sha256
    for key, vectors in TOKEN.vectors.items():
        assert torch.equal(loaded.vectors[key], vectors)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("encoders", "keys"),
    [(("clip_l",), {"<count-7>"}), (("clip_l", "clip_g"), {"clip_l", "clip_g"}), (("t5",), {"t5"})],
)
def test_tensor_keys_are_those_that_other_programs_read(tmp_path, encoders, keys):
    token = replace(TOKEN, vectors={key: torch.ones(1, 4) for key in encoders})
    path = save_token(token, tmp_path / "token.safetensors")
    assert set(load_file(path)) == keys
    assert encoded(load_token(path)) == encoded(token)


def test_pickles_whatever_their_name_and_other_files_are_errors_that_name_the_file(tmp_path):
    large = {"clip_l": torch.zeros(2, MAX_FILE_BYTES // 8)}
    for zipped in (True, False):
        torch.save(TOKEN.vectors, tmp_path / f"{zipped}.safetensors", _use_new_zipfile_serialization=zipped)
    save_file(large, tmp_path / "large.pt")
    (tmp_path / "text.pt").write_bytes(b"not a token file")
    reasons = {"True.safetensors": "pickle", "False.safetensors": "pickle", "large.pt": "larger than 1048576"}
    for name, reason in (reasons | {"text.pt": "no valid count token"}).items():
        with pytest.raises(TokenFileError, match=rf"{re.escape(str(tmp_path / name))} .*{reason}"):
            load_token(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        load_token(tmp_path / "absent.safetensors")
    with pytest.raises(TokenFileError, match="fewer vectors"):
        encoded(replace(TOKEN, vectors=large))


ONE_ENCODER = replace(TOKEN, vectors={"clip_l": torch.ones(1, 4)})
CHANGED = [
    (TOKEN, {"schema": 9}, {}, "schema: Invalid enum value 9"),
    (TOKEN, {"author": "x"}, {}, "unknown field `author`"),
    (TOKEN, {"accuracy": 0.9}, {}, "digest"),
    (TOKEN, {}, {"clip_l": torch.ones(2, 16)}, "digest"),
    (ONE_ENCODER, {}, {"clip_l": torch.ones(1, 4)}, "do not belong to it: clip_l"),
]
"""Tokens, changes of their metadata and tensors, and a word of the error."""


def test_a_changed_file_and_another_programs_embedding_are_errors(subtests):
    for token, fields, changes, message in CHANGED:
        data = encoded(token)
        metadata = {"countgen": json.dumps(header_of(data)[1] | fields)}
        with subtests.test(message=message), pytest.raises(TokenFileError, match=message):
            decoded(save(load(data) | changes, metadata), "changed")
    with pytest.raises(TokenFileError, match="no entry 'countgen'"):
        decoded(save({"<cat>": torch.zeros(1, 4)}), "a file")


INVALID_FIELDS = [
    ({"placeholder_token": "<count-8>"}, "<count-7>"),
    ({"placeholder_token": "seven"}, "<count-7>"),
    ({"vectors": {}}, "none"),
    ({"vectors": {"gemma": torch.zeros(1, 4)}}, "gemma"),
    ({"vectors": {"clip_l": torch.zeros(4)}}, r"\(V, D\)"),
    ({"vectors": {"clip_l": torch.zeros(1, 4).half()}}, "float32"),
    ({"vectors": {"clip_l": torch.zeros(1, 4), "clip_g": torch.zeros(2, 4)}}, "same V"),
    ({"vectors": {"clip_l": torch.zeros(33, 4)}}, "1 to 32"),
    ({"vectors": {"clip_l": torch.full((1, 4), math.nan)}}, "finite"),
    ({"object_names": ()}, "at least one"),
    ({"accuracy": 1.5}, "fraction"),
]


def test_invalid_fields_are_errors(subtests):
    for changes, message in INVALID_FIELDS:
        with subtests.test(changes=changes), pytest.raises(ValueError, match=message):
            replace(TOKEN, **changes)
