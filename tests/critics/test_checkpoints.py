"""Ultralytics' files are data: honest ones give the same detector, and nothing in any of them runs or is fetched."""

from __future__ import annotations

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
from countgen.app.cli import main
from countgen.critics import load, ultralytics_files
from countgen.critics.detectors.yolo import YoloCritic
from countgen.models import load_critic
from tests.faults.listener import Listener

OPTIONS = miniature.DETECTORS["miniature-yolo"].options
FAMILIES = {
    "v8/yolov8.yaml": "DetectionModel",
    "v10/yolov10n.yaml": "DetectionModel",
    "11/yolo11.yaml": "DetectionModel",
    "12/yolo12.yaml": "DetectionModel",
    "26/yolo26.yaml": "DetectionModel",
    "rt-detr/rtdetr-l.yaml": "RTDETRDetectionModel",
    "v8/yolov8-worldv2.yaml": "WorldModel",
    "11/yoloe-11.yaml": "YOLOEModel",
}


def described(config: str) -> dict[str, Any]:
    """One of Ultralytics' own descriptions, narrow where it has scales."""
    ultralytics = ultralytics_files.import_ultralytics()
    read: dict[str, Any] = yaml.safe_load((Path(ultralytics.__file__).parent / "cfg/models" / config).read_text())
    if "scales" in read:
        read |= {"scales": {"n": [0.33, 0.25, 1024]}, "scale": "n"}
    return read


def checkpoint(path: Path, config: str, **changes: Any) -> nn.Module:
    """A checkpoint as Ultralytics' trainer leaves it: the whole module, in half precision."""
    tasks = ultralytics_files.import_ultralytics().nn.tasks
    torch.manual_seed(0)
    model = getattr(tasks, FAMILIES[config])(described(config), nc=4, verbose=False)
    model.names = dict(enumerate(("apple", "cat", "dog", "car")))
    for module in model.modules():  # statistics that training would have left
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    for name, value in changes.items():
        setattr(model, name, value)
    whole = {"epoch": -1, "model": model.half(), "ema": None, "train_args": {"imgsz": 320}, "date": "2026-01-01"}
    torch.save(whole, path)
    return model


@pytest.mark.parametrize("config", FAMILIES)
def test_an_honest_checkpoint_of_every_family_is_read_as_data(config: str, tmp_path: Path) -> None:
    """Bit-equal to what Ultralytics makes of it by running it."""
    path = tmp_path / "best.pt"
    text = {"pe": torch.randn(1, 4, 512)} if "yoloe" in config else {}
    checkpoint(path, config, **text)
    data = ultralytics_files.read("yolo", path, None)
    assert not any(isinstance(known, tuple) for known in torch.serialization.get_safe_globals())  # ours are gone
    trusted = ultralytics_files.read("yolo", path, None, trust_checkpoint=True)
    assert (data.object_names, data.settings, data.name) == (trusted.object_names, trusted.settings, trusted.name)
    assert data.settings == {"image_size": 320}
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    for attribute in ("pe", "txt_feats"):
        if hasattr(trusted.model, attribute):
            assert torch.equal(getattr(data.model, attribute), getattr(trusted.model, attribute))
    with torch.no_grad():
        assert torch.equal(data.model.eval()(images)[0], trusted.model.eval()(images)[0])


class Call:
    """Pickled, it is a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "ran"


@pytest.mark.core
def test_code_in_a_checkpoint_never_runs_and_is_named(tmp_path: Path, mark: Path) -> None:
    path = tmp_path / "evil.pt"
    torch.save({"model": Call(os.mkdir, str(mark))}, path)
    with pytest.raises(ValueError, match=r"evil\.pt without running code.*posix\.mkdir.*--trust-checkpoint") as error:
        load("yolo", weights=path)
    assert "damaged" not in str(error.value)
    assert not mark.exists()


def test_no_constructor_is_called_with_the_arguments_of_a_file(tmp_path: Path, mark: Path) -> None:
    """Ultralytics' safe loading calls them: TorchVision downloads weights, a model fetches its description."""
    network = ultralytics_files.import_ultralytics().nn
    hub = Path(torch.hub.get_dir())
    before, run = set(hub.rglob("*")), f"__import__('os').mkdir({str(mark)!r})"
    with Listener() as (url, calls):
        for call in (
            Call(network.modules.TorchVision, 512, "resnet18", "DEFAULT"),
            Call(network.tasks.DetectionModel, f"{url}/evil.yaml"),
            Call(network.tasks.DetectionModel, described("11/yolo11.yaml") | {"activation": run}),
        ):
            torch.save({"model": call}, tmp_path / "evil.pt")
            with pytest.raises(ValueError, match="holds no model with a description"):
                load("yolo", weights=tmp_path / "evil.pt")
    assert calls == []
    assert set(hub.rglob("*")) == before
    assert not mark.exists()


def test_the_description_in_a_checkpoint_is_checked_too(tmp_path: Path, mark: Path) -> None:
    model = checkpoint(tmp_path / "honest.pt", "11/yolo11.yaml")
    model.yaml["activation"] = f"__import__('os').mkdir({str(mark)!r})"
    torch.save({"model": model}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match=r"its description: Expected `str` matching regex .*activation"):
        load("yolo", weights=tmp_path / "evil.pt")
    assert not mark.exists()


def test_a_checkpoint_that_its_description_does_not_build_needs_trust_and_says_so(tmp_path: Path) -> None:
    tasks = ultralytics_files.import_ultralytics().nn.tasks
    model = tasks.DetectionModel(described("11/yolo11.yaml"), nc=4, verbose=False)
    model.extra = nn.Linear(1, 1)
    torch.save({"model": model}, tmp_path / "own.pt")
    torch.save({"model": model.eval().fuse(verbose=False)}, tmp_path / "fused.pt")
    for name in ("own", "fused"):
        with pytest.raises(ValueError, match=r"missing, unknown or of another shape.*trust_checkpoint=True"):
            load_critic(f"yolo:{tmp_path}/{name}.pt")
    assert isinstance(load_critic(f"yolo:{tmp_path}/own.pt", trust_checkpoint=True), YoloCritic)


def nested(levels: int, of: Callable[[list[Any]], Any]) -> Any:
    """A value that takes a few bytes where its parts are shared, and 9 ** levels where they are written out."""
    value: Any = "x"
    for _ in range(levels):
        value = of([value] * 9)
    return value


def test_a_checkpoint_asks_for_no_more_memory_than_it_fills(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "honest.pt", "11/yolo11.yaml")
    model.yaml["activation"] = nested(8, list)
    torch.save({"model": model}, tmp_path / "shared.pt")
    model.yaml["activation"] = nested(8, lambda values: {"x": values})
    torch.save({"model": model}, tmp_path / "mapped.pt")
    model.yaml.pop("activation")
    for number in range(3000):  # each of them holds all of them
        model._modules[f"inner{number}"] = model
    torch.save({"model": model}, tmp_path / "cycle.pt")
    with zipfile.ZipFile(tmp_path / "bytes.pt", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x05" + pickle.BYTEARRAY8 + struct.pack("<Q", 2**40) + b".")
    torch.save({"model": Call(bytearray, 2**34)}, tmp_path / "called.pt")
    torch.save({"model": Call(torch.UntypedStorage, 2**34)}, tmp_path / "storage.pt")
    for name in ("shared.pt", "mapped.pt", "cycle.pt", "bytes.pt", "called.pt", "storage.pt"):
        with pytest.raises(ValueError, match=name) as error:
            load("yolo", weights=tmp_path / name)
        assert "MemoryError" not in str(error.value)
        assert len(str(error.value)) < 900


@pytest.mark.core
@pytest.mark.parametrize("saved", [{"ema": torch.zeros(2), "model": [1]}, torch.zeros(2)])
def test_a_checkpoint_of_something_else_is_one_line(saved: object, tmp_path: Path) -> None:
    torch.save(saved, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="holds no model with a description"):
        load("yolo", weights=tmp_path / "other.pt")


@pytest.mark.core
@pytest.mark.parametrize(
    "text",
    [
        "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)),
        f"nc: {':'.join(['1'] * 500_000)}\n",
    ],
    ids=["aliases", "base 60"],
)
def test_a_short_yaml_asks_for_no_long_work(text: str, tmp_path: Path) -> None:
    config = tmp_path / "evil.yaml"
    config.write_text(text + ("names: [cat]\nactivation: *a8\n" if "&a8" in text else ""))
    with pytest.raises(ValueError, match=r"evil\.yaml is not readable yaml: .*(an alias|a number)"):
        load("yolo", weights=OPTIONS["weights"], config=config)


def test_a_tensor_outside_its_bytes_is_an_error(tmp_path: Path) -> None:
    checkpoint(tmp_path / "best.pt", "11/yolo11.yaml")
    with zipfile.ZipFile(tmp_path / "best.pt") as whole, zipfile.ZipFile(tmp_path / "cut.pt", "w") as cut:
        for entry in whole.infolist():
            content = whole.read(entry)
            cut.writestr(entry.filename, content[: len(content) // 2] if "/data/" in entry.filename else content)
    with pytest.raises(ValueError, match=r"cut\.pt .*damaged or something else: RuntimeError: record size"):
        load("yolo", weights=tmp_path / "cut.pt")


EVIL = "__import__('os').mkdir('MARK')"
CHANGES: tuple[tuple[str, Any], ...] = (
    ("activation", EVIL),
    ("activation", f"nn.LeakyReLU({EVIL})"),
    ("scales", {EVIL: [0.5, 0.25, 1024]}),
    ("nc", 10**9),
    ("reg_max", 10**6),
    ("depth_multiple", 1e9),
    ("layer", [-1, 1, "nn.Sequential", []]),
    ("layer", [-1, 1, "torchvision.ops.nms", []]),
    ("layer", [-1, 1, "TorchVision", [768, "resnet18", "DEFAULT", True, 2]]),  # it downloads
    ("layer", [-1, 1, "_SafeLoad", []]),
    ("layer", [-1, 1, "Conv", ["d", 3, 2]]),  # a local variable of the parser
    ("layer", [-1, 1, "Conv", [10**9, 3, 2]]),
    ("layer", [-1, 1, "Conv", [4096, 4096, 1]]),
    ("layer", [-1, 10**9, "Conv", [64, 3, 2]]),
    ("layer", [-1, 1, "nn.Upsample", [None, 4096, "nearest"]]),
    ("layer", [-1, 1, "Conv", [[[[1]]]]]),
)


@pytest.mark.parametrize(("field", "value"), CHANGES)
def test_a_description_that_no_detector_has_is_an_error_before_anything_is_built(
    field: str, value: Any, tmp_path: Path, mark: Path
) -> None:
    description = yaml.safe_load(OPTIONS["config"].read_text())
    if field == "layer":
        description["backbone"][0] = value
    else:
        description[field] = value
    (tmp_path / "evil.yaml").write_text(yaml.safe_dump(description).replace("MARK", str(mark)))
    with pytest.raises(ValueError, match=r"evil\.yaml") as error:
        load("yolo", weights=OPTIONS["weights"], config=tmp_path / "evil.yaml")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600
    assert not mark.exists()


def test_trust_is_asked_for_on_the_command_line(tmp_path: Path, mark: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "evil.pt"
    torch.save({"model": Call(os.mkdir, str(mark))}, path)
    command = ["generate", "two cats", "--out", str(tmp_path), "--critic", f"yolo:{path}"]
    assert main(command) == 2
    assert "--trust-checkpoint" in capsys.readouterr().err
    assert not mark.exists()
    assert main([*command, "--trust-checkpoint"]) == 2
    assert "code in it may have run" in capsys.readouterr().err
    assert mark.exists()


def test_a_description_that_cannot_be_built_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    convolution = ultralytics_files.import_ultralytics().nn.modules.Conv
    read = yaml.safe_load(OPTIONS["config"].read_text()) | {"activation": "nn.ReLU()"}
    read["head"][0] = [77, 1, "Conv", [64, 3, 2]]
    (tmp_path / "odd.yaml").write_text(yaml.safe_dump(read))
    usual = convolution.default_act
    with pytest.raises(ValueError, match=r"no model can be built from .*odd\.yaml"):
        load("yolo", weights=OPTIONS["weights"], config=tmp_path / "odd.yaml")
    assert convolution.default_act is usual
