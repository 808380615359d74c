"""A stranger's model folder runs no code, reads no pickle and ends."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from countgen.files.model_folder import check_model_folder

pytestmark = pytest.mark.core

INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (INDEX, {"weight_map": {"a": "x.bin"}}, r"weight_map names 'x\.bin'; only \.safetensors"),
        (INDEX, {"weight_map": {"a": "../x.safetensors"}}, "files beside it"),
        (INDEX, {}, "weight_map names None"),
        ("config.json", {"text_config": {"_attn_implementation": "evil/kernel"}}, "'evil/kernel'; accepted: eager"),
        ("config.json", {"quantization_config": {"quant_method": "bitsandbytes"}}, "quantization_config is a dict"),
        ("config.json", {"dtype": "load"}, "dtype is 'load'"),
        ("config.json", {"max_position_embeddings": 10**12}, "max_position_embeddings is 1000000000000"),
        ("config.json", {"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
        ("config.json", {"vision_config": {"depths": [1000] * 1000}}, "at most 2000 layers"),
        ("config.json", {"encoder_in_channels": [8] * 3000}, "encoder_in_channels is a list; accepted: lists of"),
        ("config.json", {"transformers_weights": "adapter_model.bin"}, r"a \.safetensors file beside it"),
        ("config.json", {"transformers_weights": "a/x.safetensors.index.json"}, r"a \.safetensors file beside it"),
        ("config.json", [], "a JSON object is expected"),
        ("scheduler_config.json", {"num_train_timesteps": 10**9}, "at most 10000"),
        ("scheduler_config.json", {"trained_betas": "x"}, "trained_betas is 'x'"),
        ("adapter_config.json", {"base_model_name_or_path": "evil/base"}, "an adapter of another model"),
    ],
)
def test_a_field_that_leaves_the_folder_or_never_ends_is_named(
    name: str, content: Any, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as error:
        check_model_folder(tmp_path)
    assert str(tmp_path / name) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_config_that_cannot_be_parsed_is_one_line(tmp_path: Path) -> None:
    for content in (b"[" * 100_000, b"\xff", b" " * 5_000_000):
        (tmp_path / "config.json").write_bytes(content)
        with pytest.raises(ValueError, match=r"config\.json is (not valid JSON|larger than 4194304 bytes)"):
            check_model_folder(tmp_path)


def test_a_pickle_named_safetensors_and_a_pipe_are_refused_and_components_are_checked(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\x80\x02}q\x00." * 30)
    with pytest.raises(ValueError, match="is not a safetensors file"):
        check_model_folder(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model_index.json").write_text("{}")
    (tmp_path / "unet").mkdir()
    os.mkfifo(tmp_path / "unet/config.json")
    with pytest.raises(ValueError, match=r"unet/config\.json is a pipe"):
        check_model_folder(tmp_path)
