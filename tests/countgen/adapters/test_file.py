"""Adapter files: round trips, and refusal of everything else."""

import json
import random
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load, save

import countgen
from countgen.adapters.adapter import NoiseAdapter
from countgen.adapters.file import FILE, decoded, encoded, load_adapter, packed, save_adapter
from countgen.adapters.network import NetworkConfig
from countgen.errors import AdapterFileError, TokenFileError
from countgen.tokens.library import FOLDER as TOKENS


def changed(data, **facts):
    """Bytes of a file with other facts, and a digest that fits them."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    known = json.loads(header["__metadata__"][FILE.key])
    del known["digest"]
    return packed(load(data), {**known, **facts})


def test_a_saved_adapter_is_loaded_unchanged(adapter, tmp_path):
    path = save_adapter(adapter, tmp_path / "a.safetensors")
    loaded = load_adapter(path)
    assert encoded(loaded) == encoded(adapter)
    assert loaded.sha256 == adapter.sha256
    assert loaded.config == adapter.config
    assert [path] == list(tmp_path.iterdir())
    with pytest.raises(AdapterFileError, match="exists already"):
        save_adapter(adapter, path)
    save_adapter(replace(adapter, accuracy=None), path, overwrite=True)
    assert load_adapter(path).accuracy is None


def test_weights_and_config_determine_the_sha256(adapter):
    other = {name: value + 1 for name, value in adapter.weights.items()}
    assert replace(adapter, weights=other).sha256 != adapter.sha256
    assert replace(adapter, config=replace(adapter.config, counts=(4, 7))).sha256 != adapter.sha256
    assert replace(adapter, accuracy=None).sha256 == adapter.sha256


def test_every_flipped_byte_raises_only_adapter_file_error_or_changes_nothing(adapter):
    data, rng = encoded(adapter), random.Random(0)
    header = 8 + int.from_bytes(data[:8], "little")
    for number in range(2000):
        at = rng.randrange(header if number % 2 else len(data))  # half of them where facts and shapes are
        damaged = data[:at] + bytes([data[at] ^ rng.randrange(1, 256)]) + data[at + 1 :]
        try:
            found = decoded(damaged, "damaged")
        except AdapterFileError:
            continue
        assert encoded(found) == data  # a change of white space in the header


def test_every_truncation_raises_only_adapter_file_error(adapter):
    data = encoded(adapter)
    for length in (*range(0, 2000, 50), *range(2000, len(data), 5000)):
        with pytest.raises(AdapterFileError):
            decoded(data[:length], "short")


def test_what_is_no_adapter_is_refused_by_name(adapter, tmp_path, subtests):
    pickle = tmp_path / "a.safetensors"
    torch.save({"a": torch.ones(1)}, pickle)
    named = tmp_path / "a.pt"
    named.write_bytes(encoded(adapter))
    large = tmp_path / "large.safetensors"
    large.write_bytes(bytes(FILE.max_bytes + 1))
    token = next((TOKENS / "miniature").glob("*.safetensors"))
    for path, message in (
        (pickle, "is a pickle"),
        (named, "named like a pickle"),
        (large, "larger than"),
        (tmp_path, "is a folder"),
        (token, "holds a count token, expected a noise adapter"),
    ):
        with subtests.test(path=path), pytest.raises(AdapterFileError, match=message):
            load_adapter(path)
    with pytest.raises(TokenFileError):
        countgen.load_token(save_adapter(adapter, tmp_path / "b.safetensors"))


def test_facts_that_do_not_fit_are_refused(adapter, subtests):
    data = encoded(adapter)
    config = json.loads(json.dumps(vars(adapter.config)))
    for facts, message in (
        ({"schema": 2}, "has the schema 2, this version reads 1"),
        ({"architecture": "transformer"}, "its network is 'transformer'"),
        ({"config": {**config, "channels": 16}}, "do not fit"),
        ({"config": {**config, "channels": 10**9}}, "channels must be"),
        ({"config": {**config, "counts": [3, True]}}, "counts"),
        ({"config": {**config, "latent_shape": [4, 32]}}, "latent_shape"),
        ({"config": {**config, "sees_sample": 1}}, "sees_sample"),
        ({"config": {**config, "code": "x"}}, "unknown fields: code"),
        ({"more": 1}, "unknown fields: more"),
        ({"object_names": []}, "object_names are empty"),
        ({"accuracy": 2}, "accuracy must be a fraction"),
        ({"accuracy": "high"}, "its accuracy is 'high'"),
    ):
        with subtests.test(facts=facts), pytest.raises(AdapterFileError, match=message):
            decoded(changed(data, **facts), "the file")


def test_weights_that_are_not_finite_or_float16_are_refused(adapter):
    name, value = next(iter(adapter.weights.items()))
    with pytest.raises(ValueError, match="finite float16"):
        replace(adapter, weights={**adapter.weights, name: value.float()})
    with pytest.raises(ValueError, match="finite float16"):
        replace(adapter, weights={**adapter.weights, name: value * torch.inf})
    whole = save({name: value.float() for name, value in load(encoded(adapter)).items()})
    with pytest.raises(AdapterFileError, match="no noise adapter"):
        decoded(whole, "the file")


def test_configs_outside_their_range_are_refused(subtests):
    for values, message in (
        (((4, 0, 32), (3, 6), 0), "latent_shape"),
        (((4, 32, 32), (6, 3), 0), "counts"),
        (((4, 32, 32), (0, 3), 0), "counts"),
        (((4, 32, 32), (3, 6), -1), "prompt_dim"),
    ):
        with subtests.test(values=values), pytest.raises(ValueError, match=message):
            NetworkConfig(*values)


def test_the_adapter_is_exported():
    assert countgen.NoiseAdapter is NoiseAdapter
    assert countgen.load_adapter is load_adapter
