"""Token files: round trips, and errors for everything else."""

import json
import math
import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load, load_file, save, save_file

from countgen.errors import TokenFileError
from countgen.tokens.direction import NumberDirection
from countgen.tokens.file import MAX_FILE_BYTES, CountToken, decoded, encoded, load_token, save_token
from tests.countgen.tokens.examples import FIELDS

pytestmark = pytest.mark.core


def token_of(start_number=None):
    generator = torch.Generator().manual_seed(0)
    direction = start_number and NumberDirection(
        start_number,
        offset=2.5,
        prompt_embeds=torch.randn(2, 40, generator=generator),
        pooled_prompt_embeds=torch.randn(24, generator=generator),
    )
    vectors = {key: torch.randn(2, dim, generator=generator) for key, dim in (("clip_l", 16), ("clip_g", 24))}
    fields = {"placeholder_token": "<count-7>", "target_count": 7, "base_model": "sdxl-turbo", "vectors": vectors}
    return CountToken(**(FIELDS | fields | {"direction": direction}))


TOKEN, WITH_DIRECTION = token_of(), token_of(6)


def header_of(data):
    """Return the header of a file, and the fields of the token in its metadata."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return header, json.loads(header.pop("__metadata__")["countgen"])


@pytest.mark.parametrize("token", [TOKEN, WITH_DIRECTION], ids=["vectors", "direction"])
def test_a_saved_token_is_loaded_unchanged_and_equal_tokens_give_equal_bytes(token, tmp_path):
    path = save_token(token, tmp_path / "count-7.safetensors")
    loaded = load_token(path)
    assert path.read_bytes() == encoded(loaded)
    assert path.read_bytes() == encoded(replace(token, vectors=dict(reversed(token.vectors.items()))))
    assert loaded.sha256 == token.sha256
    for key, vectors in token.vectors.items():
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


def test_the_file_of_a_direction_has_another_schema_and_keys_that_no_other_program_knows():
    header, metadata = header_of(encoded(WITH_DIRECTION))
    assert (metadata["schema"], metadata["start_number"]) == (2, 6)
    assert all(key.startswith("number_direction.") for key in header)
    # ComfyUI takes the first tensor: a single number, which fits no encoder.
    first = min(header, key=lambda key: header[key]["data_offsets"])
    assert (first, header[first]["shape"]) == ("number_direction.offset", [1])
    other = replace(WITH_DIRECTION, direction=replace(WITH_DIRECTION.direction, offset=3.0))
    assert len({TOKEN.sha256, WITH_DIRECTION.sha256, other.sha256}) == 3


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
    (WITH_DIRECTION, {}, {"number_direction.offset": None}, "has an offset"),
    (WITH_DIRECTION, {}, {"number_direction.offset": torch.ones(2)}, "an offset of one number"),
    (WITH_DIRECTION, {}, {"number_direction.prompt_embeds": None}, "and prompt_embeds"),
    (WITH_DIRECTION, {}, {"clip_l": torch.ones(1, 128)}, "do not belong to it: clip_l"),
]
"""Tokens, changes of their metadata and tensors, None to leave one out, and a word of the error."""


def test_a_changed_file_and_another_programs_embedding_are_errors(subtests):
    for token, fields, changes, message in CHANGED:
        data = encoded(token)
        tensors = {key: tensor for key, tensor in (load(data) | changes).items() if tensor is not None}
        metadata = {"countgen": json.dumps(header_of(data)[1] | fields)}
        with subtests.test(message=message), pytest.raises(TokenFileError, match=message):
            decoded(save(tensors, metadata), "changed")
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
    ({"direction": replace(WITH_DIRECTION.direction, start_number=7)}, "counts above its start, got 7 from 7"),
]
INVALID_DIRECTIONS = [
    ({"start_number": 0}, "number word"),
    ({"offset": 0.0}, "above 0"),
    ({"offset": math.nan}, "above 0"),
    ({"prompt_embeds": torch.zeros(3, 4)}, r"\(2, D\)"),
    ({"prompt_embeds": torch.zeros(2, 4).half()}, "float32"),
    ({"prompt_embeds": torch.full((2, 4), math.inf)}, "finite"),
    ({"pooled_prompt_embeds": torch.zeros(2, 4)}, r"pooled \(P,\)"),
]


def test_invalid_fields_are_errors(subtests):
    for valid, table in ((TOKEN, INVALID_FIELDS), (WITH_DIRECTION.direction, INVALID_DIRECTIONS)):
        for changes, message in table:
            with subtests.test(changes=changes), pytest.raises(ValueError, match=message):
                replace(valid, **changes)
