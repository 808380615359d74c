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
    ultralytics_files.import_ultralytics()
    import ultralytics

    read: dict[str, Any] = yaml.safe_load((Path(ultralytics.__file__).parent / "cfg/models" / config).read_text())
    if "scales" in read:
        read |= {"scales": {"n": [0.33, 0.25, 1024]}, "scale": "n"}
    return read


def checkpoint(path: Path, config: str, **changes: Any) -> nn.Module:
    """A checkpoint as Ultralytics' trainer leaves it: the whole module, in half precision."""
    ultralytics_files.import_ultralytics()
    from ultralytics.nn import tasks

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


def test_critics_read_checkpoints_of_their_kind_as_data(tmp_path: Path) -> None:
    checkpoint(tmp_path / "eleven.pt", "11/yolo11.yaml")
    checkpoint(tmp_path / "world.pt", "v8/yolov8-worldv2.yaml", txt_feats=torch.randn(1, 4, 512))
    checkpoint(tmp_path / "rtdetr.pt", "rt-detr/rtdetr-l.yaml")
    for kind, name in (("yolo", "eleven"), ("yolo_world", "world"), ("ultralytics_rtdetr", "rtdetr")):
        critic = load(kind, weights=tmp_path / f"{name}.pt", image_size=64)
        assert critic.object_names == ("apple", "cat", "dog", "car")
        assert critic.counts(torch.rand(1, 3, 64, 64), ["cat"]).shape == (1, 1)


class Call:
    """Pickled, it is a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "ran"


def test_code_in_a_checkpoint_never_runs_and_is_named(tmp_path: Path, mark: Path) -> None:
    path = tmp_path / "evil.pt"
    torch.save({"model": Call(os.mkdir, str(mark))}, path)
    with pytest.raises(ValueError, match=r"evil\.pt without running code.*posix\.mkdir.*--trust-checkpoint") as refusal:
        load("yolo", weights=path)
    assert "damaged" not in str(refusal.value)
    assert not mark.exists()


def test_no_constructor_is_called_with_the_arguments_of_a_file(tmp_path: Path, mark: Path) -> None:
    """Ultralytics' safe loading calls them: TorchVision downloads weights, a model fetches its description."""
    ultralytics_files.import_ultralytics()
    from ultralytics.nn import tasks
    from ultralytics.nn.modules import TorchVision

    hub = Path(torch.hub.get_dir())
    before = set(hub.rglob("*"))
    with Listener() as (url, calls):
        for call in (
            Call(TorchVision, 512, "resnet18", "DEFAULT"),
            Call(tasks.DetectionModel, f"{url}/evil.yaml"),
            Call(
                tasks.DetectionModel,
                described("11/yolo11.yaml") | {"activation": f"__import__('os').mkdir({str(mark)!r})"},
            ),
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


def test_a_fused_checkpoint_needs_trust_and_says_so(tmp_path: Path) -> None:
    from ultralytics.nn import tasks

    model = tasks.DetectionModel(described("11/yolo11.yaml"), nc=4, verbose=False)
    torch.save({"model": model.eval().fuse(verbose=False)}, tmp_path / "fused.pt")
    with pytest.raises(ValueError, match=r"missing, unknown or of another shape.*trust_checkpoint=True"):
        load("yolo", weights=tmp_path / "fused.pt")


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
    model.yaml["activation"] = nested(8, lambda parts: {"x": parts})
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
        with pytest.raises(ValueError, match=name) as refusal:
            load("yolo", weights=tmp_path / name)
        assert "MemoryError" not in str(refusal.value)
        assert len(str(refusal.value)) < 900


@pytest.mark.parametrize("saved", [{"ema": torch.zeros(2), "model": [1]}, torch.zeros(2)])
def test_a_checkpoint_of_something_else_is_one_line(saved: object, tmp_path: Path) -> None:
    torch.save(saved, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="holds no model with a description"):
        load("yolo", weights=tmp_path / "other.pt")


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


def test_a_tensor_outside_its_bytes_is_refused(tmp_path: Path) -> None:
    checkpoint(tmp_path / "best.pt", "11/yolo11.yaml")
    with zipfile.ZipFile(tmp_path / "best.pt") as whole, zipfile.ZipFile(tmp_path / "cut.pt", "w") as cut:
        for entry in whole.infolist():
            content = whole.read(entry)
            cut.writestr(entry.filename, content[: len(content) // 2] if "/data/" in entry.filename else content)
    with pytest.raises(ValueError, match=r"cut\.pt .*damaged or something else: RuntimeError: record size"):
        load("yolo", weights=tmp_path / "cut.pt")


EVIL = "__import__('os').mkdir('MARK')"
CHANGES: dict[str, Any] = {
    "activation": EVIL,
    "activation with a call inside": "nn.LeakyReLU(__import__('os').mkdir('MARK'))",
    "an activation of another name": "nn.Module()",
    "scales": {EVIL: [0.5, 0.25, 1024]},
    "nc": 10**9,
    "reg_max": 10**6,
    "depth_multiple": 1e9,
    "module": [-1, 1, "nn.Sequential", []],
    "a function": [-1, 1, "torchvision.ops.nms", []],
    "what downloads": [-1, 1, "TorchVision", [768, "resnet18", "DEFAULT", True, 2]],
    "a private name": [-1, 1, "_SafeLoad", []],
    "a name of the parser": [-1, 1, "Conv", ["d", 3, 2]],
    "channels": [-1, 1, "Conv", [10**9, 3, 2]],
    "a kernel": [-1, 1, "Conv", [4096, 4096, 1]],
    "repeats": [-1, 10**9, "Conv", [64, 3, 2]],
    "upsampling": [-1, 1, "nn.Upsample", [None, 4096, "nearest"]],
    "nesting": [-1, 1, "Conv", [[[[1]]]]],
}


def test_a_description_that_no_detector_has_is_refused_before_it_is_built(
    subtests: pytest.Subtests, tmp_path: Path, mark: Path
) -> None:
    for what in CHANGES:
        with subtests.test(what=what):
            read = yaml.safe_load(OPTIONS["config"].read_text())
            change = yaml.safe_load(yaml.safe_dump(CHANGES[what]).replace("MARK", str(mark)))
            if isinstance(change, list):
                read["backbone"][0] = change
            else:
                read[what.split()[-1] if what in read else "activation" if "activation" in what else what] = change
            config = tmp_path / "evil.yaml"
            config.write_text(yaml.safe_dump(read))
            with pytest.raises(ValueError, match=r"evil\.yaml") as refusal:
                load("yolo", weights=OPTIONS["weights"], config=config)
            assert "\n" not in str(refusal.value)
            assert len(str(refusal.value)) < 600
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


def test_trust_reaches_a_checkpoint_through_every_loader(tmp_path: Path) -> None:
    from ultralytics.nn import tasks

    model = tasks.DetectionModel(described("11/yolo11.yaml"), nc=4, verbose=False)
    model.extra = nn.Linear(1, 1)  # of no description: not read as data
    torch.save({"model": model}, tmp_path / "own.pt")
    name = f"yolo:{tmp_path / 'own.pt'}"
    with pytest.raises(ValueError, match="trust_checkpoint=True"):
        load_critic(name)
    assert isinstance(load_critic(name, trust_checkpoint=True), YoloCritic)
    assert isinstance(load_critic("miniature-fcos", trust_checkpoint=True), nn.Module) is False


def test_a_description_that_cannot_be_built_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    ultralytics_files.import_ultralytics()
    from ultralytics.nn.modules import Conv

    read = yaml.safe_load(OPTIONS["config"].read_text()) | {"activation": "nn.ReLU()"}
    read["head"][0] = [77, 1, "Conv", [64, 3, 2]]
    (tmp_path / "odd.yaml").write_text(yaml.safe_dump(read))
    usual = Conv.default_act
    with pytest.raises(ValueError, match=r"no model can be built from .*odd\.yaml"):
        load("yolo", weights=OPTIONS["weights"], config=tmp_path / "odd.yaml")
    assert Conv.default_act is usual


def test_checking_a_description_draws_no_random_numbers() -> None:
    torch.manual_seed(7)
    model, _ = ultralytics_files.build(OPTIONS["config"])
    torch.manual_seed(7)
    from ultralytics.nn import tasks

    read = yaml.safe_load(OPTIONS["config"].read_text())
    stock = tasks.DetectionModel(read, nc=24, verbose=False)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(model.parameters(), stock.parameters(), strict=True))
