"""A model, an adapter or a scheduler that does not fit or names code is one ValueError; nothing of it runs."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from countgen import backbones, miniature
from countgen.backbones.lora import Lora
from tests.countgen.backbones.conftest import write_lora


@pytest.mark.parametrize(
    ("file", "fields", "message"),
    [
        ("model_index.json", {"text_encoder": ["transformers", "pipeline"]}, "accepted: a class of"),
        ("model_index.json", {"text_encoder": [None, None]}, "cannot"),
        ("text_encoder/config.json", {"_attn_implementation": "owner/kernel"}, "sdpa"),
        ("unet/config.json", {"dual_cross_attention": True}, "cannot"),
        ("vae/config.json", {"scaling_factor": "x"}, "cannot render an image"),
    ],
)
def test_a_folder_that_cannot_be_used_is_one_error(
    file: str, fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = shutil.copytree(miniature.FOLDER / "mini-sdxl-turbo", tmp_path / "model")
    (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | fields))
    with pytest.raises(ValueError, match=message) as error:
        backbones.load(folder)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 700


@pytest.mark.skipif(find_spec("peft") is None, reason="needs peft, the extra countgen[lora]")
def test_an_adapter_that_is_a_pickle_or_names_a_module_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "pickle.safetensors").write_bytes(pickle.dumps({}) + bytes(64))
    with pytest.raises(ValueError, match="not a safetensors file"):
        backbones.load("miniature", loras=[Lora(str(tmp_path / "pickle.safetensors"))])
    settings = {"unet.r": 2, "unet.megatron_config": {"a": 1}, "unet.megatron_core": "antigravity"}
    file = tmp_path / "named.safetensors"
    save_file(load_file(write_lora(tmp_path)), file, metadata={"lora_adapter_metadata": json.dumps(settings)})
    with pytest.raises(ValueError, match=r"megatron_config.* accepted: nothing"):
        backbones.load("miniature", loras=[Lora(str(file))])
    assert "antigravity" not in sys.modules
