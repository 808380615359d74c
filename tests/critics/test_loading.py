"""Options and files of `load`: folders and checkpoints as the stock libraries write them, and everything else."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from countgen import miniature
from countgen.critics import load, weights
from countgen.critics.detectors.owl import OwlCritic
from countgen.critics.detectors.yolo import letterbox
from countgen.critics.ultralytics_files import PREDICT_THRESHOLD, build
from tests.contract.pictures import rendered
from tests.contract.tiny_detectors import real_time_detr, tiny

YOLO = miniature.DETECTORS["miniature-yolo"].options
NO_CACHE = r"is not in the hub's cache, and HF_HUB_OFFLINE is set; .*`hf download"


def save(critic: Any, folder: Path) -> None:
    """Write a critic of transformers as transformers does."""
    critic.model.save_pretrained(folder)
    critic.image_processor.save_pretrained(folder)


@pytest.mark.parametrize(
    ("kind", "options", "help_"),
    [
        ("yolo", {"weights": "nowhere/yolo.pt"}, "OWNER/REPOSITORY/FILE.*nothing else is downloaded"),
        ("yolo", {"weights": "yolo11n", "revision": "main"}, f"yolo11n.pt of Ultralytics/YOLO11@main {NO_CACHE}"),
        ("yolo", {}, "missing a required argument: 'weights'; it takes weights, config.*nms_iou"),
        ("yolo", YOLO | {"thresold": 0.5}, "'thresold'; it takes weights, config.* threshold"),
        ("yolo", {"weights": YOLO["weights"]}, "give config="),
        ("yolo", YOLO | {"image_size": 0}, "image_size must be at least 1 pixel"),
        ("ultralytics_rtdetr", YOLO, "ends in Detect; expected RTDETRDecoder"),
        ("torchvision", {"weights": "yolo"}, "no detector 'yolo'; available: .*retinanet"),
        ("torchvision", {"weights": "ssd300_vgg16", "revision": "V9"}, "no weights 'V9'.* COCO_V1"),
        ("detr", {"weights": "detr-resnet-50"}, f"config.json of facebook/detr-resnet-50@no_timm {NO_CACHE}"),
        ("sam3", {"weights": "nonsense"}, "folder 'nonsense' does not exist.* OWNER/NAME, or one of sam3"),
    ],
)
def test_an_option_that_does_not_fit_says_what_does(kind: str, options: dict[str, Any], help_: str) -> None:
    with pytest.raises((ValueError, OSError), match=help_):
        load(kind, **options)


def test_a_damaged_file_and_weights_of_another_architecture_are_errors_that_name_them(tmp_path: Path) -> None:
    for kind, name in (("yolo", "best.pt"), ("fcos", "best.safetensors")):
        (tmp_path / name).write_bytes(b"hello" * 100)
        with pytest.raises(ValueError, match=f"cannot read {kind} .*{name}.*damaged or something else"):
            load(kind, weights=tmp_path / name)
    save_file({"model.0.conv.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="does not hold the weights"):
        load("yolo", weights=tmp_path / "other.safetensors", config=YOLO["config"])


def test_a_yolo_takes_the_threshold_that_its_training_noted(tmp_path: Path) -> None:
    tensors, names, noted = weights.read(YOLO["weights"])
    critic = load("yolo", **YOLO)
    assert critic.settings.threshold == noted == 0.45
    assert critic.name.startswith("yolo:critic-")  # the folder's name, since many files are called "model"
    retrained = YOLO | {"weights": tmp_path / "retrained.safetensors"}
    for threshold, expected in ((0.3, 0.3), (None, PREDICT_THRESHOLD)):
        weights.write(retrained["weights"], tensors, names, threshold)
        assert load("yolo", **retrained).settings.threshold == expected


def test_embeddings_must_be_one_vector_per_object(tmp_path: Path) -> None:
    text = YOLO["config"].read_text().replace("1, Detect, [nc]", "1, WorldDetect, [nc, 512, True]")
    (tmp_path / "world.yaml").write_text(text)
    save_file(build(tmp_path / "world.yaml")[0].state_dict(), tmp_path / "world.safetensors")
    files: dict[str, Any] = {"weights": tmp_path / "world.safetensors", "config": tmp_path / "world.yaml"}
    with pytest.raises(ValueError, match="one vector of 512 per object name"):
        load("yolo_world", **files, embeddings={"apple": torch.ones(1, 512)})
    with pytest.raises(FileNotFoundError, match="safetensors file of text embeddings"):
        load("yolo_world", **files, embeddings=tmp_path / "none.safetensors")
    save_file({"red apple": torch.ones(512), "dog": torch.zeros(512)}, tmp_path / "words.safetensors")
    critic = load("yolo_world", **files, embeddings=tmp_path / "words.safetensors", image_size=64)
    assert critic.object_names == ("dog", "red apple")
    assert critic.counts(torch.rand(2, 3, 64, 64), ["red apples", "dog"]).shape == (2, 2)


def test_the_cause_of_an_unreadable_folder_is_told(tmp_path: Path) -> None:
    config = {"model_type": "detr", "backbone": "resnet50", "use_timm_backbone": True, "backbone_config": None}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"needs a package that is not installed: .*timm"):
        load("detr", weights=str(tmp_path))
    with pytest.raises(ValueError, match="is a 'detr' model; expected owlv2 or owlvit"):
        OwlCritic(tiny("detr").model, None, None)


def test_a_folder_written_by_transformers_is_loaded(tmp_path: Path) -> None:
    critic, images = real_time_detr("rt_detr"), rendered(4)
    critic.model.config.id2label[1] = "N/A"
    save(critic, tmp_path)
    loaded = load("detr", weights=str(tmp_path), threshold=critic.settings.threshold)
    assert (loaded.name, loaded.object_names) == (f"detr:{tmp_path.name}", ("apple", "car", "ball"))
    assert loaded.max_count == 40
    assert torch.equal(loaded.counts(images, ["apples", "car"]), critic.counts(images, ["apple", "car"]))


@pytest.mark.parametrize(
    ("shape", "size"), [((128, 128), 128), ((100, 200), 128), ((64, 64), 640), ((480, 500), 640), ((333, 500), 640)]
)
def test_the_letterbox_is_ultralytics_own(shape: tuple[int, int], size: int) -> None:
    from ultralytics.data.augment import LetterBox

    squares, _, left, top = letterbox(torch.full((1, 3, *shape), 0.5), size, 32)
    stock = LetterBox(size, auto=True, stride=32)(image=np.full((*shape, 3), 128, np.uint8))
    image = torch.from_numpy(stock[..., 0] != 114)
    assert torch.equal((squares[0, 0] - 114 / 255).abs() > 1e-4, image)
    assert [top, left] == image.nonzero()[0].tolist()


@pytest.mark.parametrize("kind", ["detr", "owl", "grounding_dino", "sam3", "vlm"])
def test_code_in_a_folder_never_runs_and_nothing_asks_whether_it_may(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    classes = ("Config", "ModelForObjectDetection", "ModelForZeroShotObjectDetection", "ModelForImageTextToText")
    code = {"auto_map": {f"Auto{name}": "evil.Evil" for name in (*classes, "Processor", "ImageProcessor", "Tokenizer")}}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "evil"} | code))
    for name in ("preprocessor_config.json", "processor_config.json", "tokenizer_config.json"):
        (tmp_path / name).write_text(json.dumps(code))
    (tmp_path / "evil.py").write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()")
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 100))
    with pytest.raises(ValueError, match="cannot read ") as error:
        load(kind, weights=str(tmp_path))
    assert "\n" not in str(error.value)
    assert "[y/N]" not in "".join(capfd.readouterr())
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("config.json", {"hidden_size": "x"}),
        ("config.json", {"backbone_config": {"model_type": "x"}}),
        ("config.json", {"_attn_implementation": "evil/kernel"}),
        ("config.json", {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}),
        ("config.json", {"decoder_layers": 10**9}),
        ("config.json", {"model_type": "x"}),
        ("preprocessor_config.json", {"image_mean": [0.5]}),
    ],
)
def test_a_configuration_that_does_not_fit_is_one_line(file: str, changes: dict[str, Any], tmp_path: Path) -> None:
    save(tiny("detr"), tmp_path)
    content = json.loads((tmp_path / file).read_text())
    (tmp_path / file).write_text(json.dumps(content | changes))
    with pytest.raises(ValueError, match=r"config\.json: |cannot (read|count)") as error:
        load("detr", weights=str(tmp_path))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600
