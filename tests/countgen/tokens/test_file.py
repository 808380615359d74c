"""Token files: round trips, and errors for everything else."""

import json
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


@pytest.fixture
def token():
    return token_of()


@pytest.fixture(params=[None, 6], ids=["vectors", "direction"])
def any_token(request):
    return token_of(request.param)


def same(first, second):
    return encoded(first) == encoded(second)


def test_a_saved_token_is_loaded_unchanged(any_token, tmp_path):
    path = save_token(any_token, tmp_path / "count-7.safetensors")
    loaded = load_token(path)
    assert same(any_token, loaded)
    for key, vectors in any_token.vectors.items():
        assert torch.equal(loaded.vectors[key], vectors)
    assert list(tmp_path.iterdir()) == [path]


def test_equal_tokens_give_equal_bytes(any_token):
    assert encoded(any_token) == encoded(replace(any_token, vectors=dict(reversed(any_token.vectors.items()))))


@pytest.mark.parametrize(
    ("encoders", "keys"),
    [
        (("clip_l",), {"<count-7>"}),
        (("clip_l", "clip_g"), {"clip_l", "clip_g"}),
        (("t5",), {"t5"}),
        (("clip_l", "t5"), {"clip_l", "t5"}),
    ],
)
def test_tensor_keys_are_those_that_other_programs_read(token, tmp_path, encoders, keys):
    token = replace(token, vectors={key: torch.ones(1, 4) for key in encoders})
    path = save_token(token, tmp_path / "token.safetensors")
    assert set(load_file(path)) == keys
    assert same(load_token(path), token)


def test_an_existing_file_is_replaced_only_with_overwrite(token, tmp_path):
    path = save_token(token, tmp_path / "a.safetensors")
    with pytest.raises(TokenFileError, match="exists already"):
        save_token(replace(token, accuracy=0.6), path)
    assert load_token(path).accuracy == 0.5
    save_token(replace(token, accuracy=0.6), path, overwrite=True)
    assert load_token(path).accuracy == 0.6


@pytest.mark.parametrize("name", ["token.pt", "token.safetensors"])
@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_are_errors_whatever_their_name(token, tmp_path, name, zipped):
    torch.save(token.vectors, tmp_path / name, _use_new_zipfile_serialization=zipped)
    with pytest.raises(TokenFileError, match="pickle"):
        load_token(tmp_path / name)


def test_a_file_over_one_mebibyte_is_an_error(token, tmp_path):
    path = tmp_path / "big.safetensors"
    save_file({"clip_l": torch.zeros(2, MAX_FILE_BYTES // 8)}, path)
    with pytest.raises(TokenFileError, match="larger than 1048576"):
        load_token(path)
    with pytest.raises(TokenFileError, match="fewer vectors"):
        encoded(replace(token, vectors={"clip_l": torch.zeros(2, MAX_FILE_BYTES // 8)}))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [({"countgen": '{"schema": 9}'}, "schema: Invalid enum value 9"), (None, "no entry 'countgen'")],
)
def test_an_unknown_schema_and_another_programs_embedding_are_errors(metadata, message):
    with pytest.raises(TokenFileError, match=message):
        decoded(save({"<cat>": torch.zeros(1, 4)}, metadata), "a file")


def rewritten(token, fields=None, tensors=None):
    """Return the bytes of the token's file with additional metadata or other tensors."""
    data = encoded(token)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    metadata = json.loads(header["__metadata__"]["countgen"]) | (fields or {})
    return save(tensors or load(data), {"countgen": json.dumps(metadata)})


def test_unknown_metadata_fields_are_errors_by_name(token):
    assert same(decoded(rewritten(token), "unchanged"), token)
    with pytest.raises(TokenFileError, match="unknown field"):
        decoded(rewritten(token, fields={"url": "https://example.org", "author": "x"}), "more")


def test_two_tensors_for_one_encoder_are_errors_by_name(token):
    token = replace(token, vectors={"clip_l": torch.ones(1, 4)})
    with pytest.raises(TokenFileError, match="both <count-7> and clip_l"):
        decoded(rewritten(token, tensors={key: torch.ones(1, 4) for key in ("clip_l", "<count-7>")}), "twice")


INVALID_FIELDS = [
    ({"placeholder_token": "<count-8>"}, "<count-7>"),
    ({"placeholder_token": "seven"}, "<count-7>"),
    ({"vectors": {}}, "none"),
    ({"vectors": {"gemma": torch.zeros(1, 4)}}, "gemma"),
    ({"vectors": {"clip_l": torch.zeros(4)}}, r"\(V, D\)"),
    ({"vectors": {"clip_l": torch.zeros(1, 4).half()}}, "float32"),
    ({"vectors": {"clip_l": torch.zeros(1, 4), "clip_g": torch.zeros(2, 4)}}, "same V"),
    ({"vectors": {"clip_l": torch.zeros(33, 4)}}, "1 to 32"),
    ({"vectors": {"clip_l": torch.full((1, 4), float("nan"))}}, "not finite"),
    ({"vectors": {"clip_l": torch.full((1, 4), float("inf"))}}, "not finite"),
    ({"object_names": ()}, "at least one"),
    ({"accuracy": 1.5}, "fraction"),
]


def test_invalid_fields_of_a_token_are_errors(subtests, token):
    for changes, message in INVALID_FIELDS:
        with subtests.test(changes=changes), pytest.raises(ValueError, match=message):
            replace(token, **changes)


def test_error_messages_name_the_file(tmp_path):
    path = tmp_path / "token.safetensors"
    path.write_bytes(b"not a token file")
    with pytest.raises(TokenFileError, match=re.escape(str(path))):
        load_token(path)
    with pytest.raises(FileNotFoundError):
        load_token(tmp_path / "absent.safetensors")
