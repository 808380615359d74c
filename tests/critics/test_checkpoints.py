"""Ultralytics' files are data: honest ones give the same detector, and nothing in any of them runs or is fetched."""

from __future__ import annotations

import copy
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from countgen import miniature
from countgen.critics import load, ultralytics_files
from tests.contract.tiny_detectors import ULTRALYTICS, tiny, write_checkpoint
from tests.faults.hostile import nothing_runs

OPTIONS = miniature.DETECTORS["miniature-yolo"].options


@pytest.mark.parametrize("name", [*ULTRALYTICS, "ultralytics-rtdetr"])
def test_an_honest_checkpoint_of_every_family_is_read_as_data(name: str, tmp_path: Path) -> None:
    """Bit-equal to what Ultralytics makes of it by running it."""
    critic: Any = copy.copy(tiny(name))
    critic.model = copy.deepcopy(critic.model).half()  # as Ultralytics' trainer leaves it
    path = write_checkpoint(critic, tmp_path / "best.pt")
    data = ultralytics_files.read("yolo", path, None)
    assert not any(isinstance(known, tuple) for known in torch.serialization.get_safe_globals())  # ours are gone
    trusted = ultralytics_files.read("yolo", path, None, trust_checkpoint=True)
    assert (data.object_names, data.settings, data.name) == (trusted.object_names, trusted.settings, trusted.name)
    assert data.settings == {"image_size": 128}
    for attribute in ("pe", "txt_feats"):
        if hasattr(trusted.model, attribute):
            assert torch.equal(getattr(data.model, attribute), getattr(trusted.model, attribute))
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(data.model.eval()(images)[0], trusted.model.eval()(images)[0])


class Call:
    """Pickled, it is a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def described(**changes: Any) -> dict[str, Any]:
    """Return the description of the embedded critic, changed."""
    read: dict[str, Any] = yaml.safe_load(OPTIONS["config"].read_text())
    return read | changes


def model_of(**changes: Any) -> Any:
    """Return a model of Ultralytics whose description was changed after it was built."""
    tasks = ultralytics_files.import_ultralytics().nn.tasks
    model = tasks.DetectionModel(described(), nc=24, verbose=False)
    model.yaml |= changes
    return model


def test_code_in_a_checkpoint_is_named_and_runs_only_if_the_user_trusts_it(tmp_path: Path) -> None:
    path = tmp_path / "evil.pt"
    torch.save({"model": Call(os.mkdir, str(tmp_path / "ran"))}, path)
    with (
        nothing_runs(),
        pytest.raises(ValueError, match=r"names 'posix\.mkdir', which no detector.*--trust-checkpoint"),
    ):
        load("yolo", weights=path)
    with pytest.raises(ValueError, match="code in it may have run"):
        load("yolo", weights=path, trust_checkpoint=True)
    assert (tmp_path / "ran").exists()


EVIL = "__import__('os').mkdir('/tmp/countgen-was-here')"


def test_neither_constructors_nor_descriptions_in_a_checkpoint_run(tmp_path: Path) -> None:
    """Ultralytics' safe loading calls constructors: TorchVision downloads weights, a model fetches its description."""
    network = ultralytics_files.import_ultralytics().nn
    for saved, help_ in (
        (Call(network.modules.TorchVision, 512, "resnet18", "DEFAULT"), "holds no model with a description"),
        (Call(network.tasks.DetectionModel, "http://127.0.0.1:9/evil.yaml"), "holds no model with a description"),
        (Call(network.tasks.DetectionModel, described(activation=EVIL)), "holds no model with a description"),
        (model_of(activation=EVIL), r"its description: Expected `str` matching regex .*activation"),
        (torch.zeros(2), "holds no model with a description"),
    ):
        torch.save({"model": saved}, tmp_path / "evil.pt")
        with nothing_runs(), pytest.raises(ValueError, match=help_):
            load("yolo", weights=tmp_path / "evil.pt")


def test_a_checkpoint_that_its_description_does_not_build_needs_trust_and_says_so(tmp_path: Path) -> None:
    model = model_of()
    model.extra = nn.Linear(1, 1)
    torch.save({"model": model}, tmp_path / "own.pt")
    torch.save({"model": model.eval().fuse(verbose=False)}, tmp_path / "fused.pt")
    for name in ("own", "fused"):
        with pytest.raises(ValueError, match=r"missing, unknown or of another shape.*trust_checkpoint=True"):
            load("yolo", weights=tmp_path / f"{name}.pt")
    assert load("yolo", weights=tmp_path / "own.pt", trust_checkpoint=True).families == {"yolo"}


def test_a_checkpoint_asks_for_no_more_memory_than_it_fills(tmp_path: Path) -> None:
    shared: Any = "x"
    for _ in range(8):  # 9 ** 8 values where the shared ones are written out
        shared = [{"x": shared}] * 9
    cycle = model_of()
    for number in range(3000):  # each of them holds all of them
        cycle._modules[f"inner{number}"] = cycle
    for name, saved in {
        "shared": model_of(activation=shared),
        "cycle": cycle,
        "called": Call(bytearray, 2**34),
        "storage": Call(torch.UntypedStorage, 2**34),
    }.items():
        torch.save({"model": saved}, tmp_path / f"{name}.pt")
    with zipfile.ZipFile(tmp_path / "bytes.pt", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x05" + pickle.BYTEARRAY8 + struct.pack("<Q", 2**40) + b".")
    for path in tmp_path.iterdir():
        with pytest.raises(ValueError, match=path.name) as error:
            load("yolo", weights=path)
        assert len(str(error.value)) < 900


@pytest.mark.core
def test_a_short_yaml_asks_for_no_long_work(tmp_path: Path) -> None:
    aliases, base_60 = "a0: &a0 [x, x]\na1: &a1 [*a0, *a0]\nnames: *a1\n", f"nc: {':'.join(['1'] * 500_000)}\n"
    for text, help_ in ((aliases, "an alias"), (base_60, "a number")):
        (tmp_path / "evil.yaml").write_text(text)
        with pytest.raises(ValueError, match=rf"evil\.yaml is not readable yaml: .*{help_}"):
            load("yolo", weights=OPTIONS["weights"], config=tmp_path / "evil.yaml")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("activation", EVIL),
        ("activation", f"nn.LeakyReLU({EVIL})"),
        ("names", None),
        ("scales", {EVIL: [0.5, 0.25, 1024]}),
        ("nc", 10**9),
        ("depth_multiple", 1e9),
        ("layer", [-1, 1, "nn.Sequential", []]),
        ("layer", [-1, 1, "TorchVision", [768, "resnet18", "DEFAULT", True, 2]]),  # it downloads
        ("layer", [-1, 1, "Conv", ["d", 3, 2]]),  # a local variable of the parser
        ("layer", [-1, 1, "Conv", [4096, 4096, 1]]),
        ("layer", [-1, 10**9, "Conv", [64, 3, 2]]),
        ("layer", [-1, 1, "nn.Upsample", [None, 4096, "nearest"]]),
        ("layer", [77, 1, "Conv", [64, 3, 2]]),
    ],
)
def test_a_description_that_no_detector_has_is_one_line_and_leaves_the_process_as_it_was(
    field: str, value: Any, tmp_path: Path
) -> None:
    convolution = ultralytics_files.import_ultralytics().nn.modules.Conv
    usual = convolution.default_act
    description = described(**({} if field == "layer" else {field: value}))
    if field == "layer":
        description |= {"activation": "nn.ReLU()", "backbone": [value, *description["backbone"][1:]]}
    (tmp_path / "evil.yaml").write_text(yaml.safe_dump(description))
    with nothing_runs(), pytest.raises(ValueError, match=r"evil\.yaml") as error:
        load("yolo", weights=OPTIONS["weights"], config=tmp_path / "evil.yaml")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600
    assert convolution.default_act is usual
