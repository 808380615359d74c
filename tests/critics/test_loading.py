"""What `load` takes and refuses; folders and checkpoints written by the stock libraries."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from countgen import miniature
from countgen.critics import load, weights
from countgen.critics.detectors import yolo_world
from countgen.critics.detectors.yolo import letterbox
from countgen.critics.ultralytics_files import PREDICT_THRESHOLD
from countgen.models import check_detectors
from tests.contract import tiny_detectors
from tests.contract.pictures import rendered

YOLO = miniature.DETECTORS["miniature-yolo"].options


def test_a_yolo_that_is_not_there_is_not_downloaded(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing else is downloaded"):
        load("yolo", weights=tmp_path / "yolo11n.pt")


@pytest.mark.parametrize("weights", ["yolo11n", "someone/detectors/best.pt"])
def test_a_file_of_the_hub_that_cannot_be_had_says_where_it_would_be(weights: str) -> None:
    with pytest.raises(
        ValueError, match=r"of (Ultralytics/YOLO11|someone/detectors) cannot be downloaded from the hub"
    ):
        load("yolo", weights=weights, revision="main")


@pytest.mark.parametrize("kind", ["yolo", "ultralytics_rtdetr", "yolo_world", "fcos", "centernet", "density"])
def test_a_damaged_file_is_a_value_error_that_names_it(kind: str, tmp_path: Path) -> None:
    damaged = tmp_path / ("best.pt" if "yolo" in kind or "rtdetr" in kind else "best.safetensors")
    damaged.write_bytes(b"hello" * 100)
    with pytest.raises(
        ValueError, match=f"(cannot read {kind}|no detector weights|cannot read) .*best.*damaged or something else"
    ):
        load(kind, weights=damaged)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"yolo: missing a required argument: 'weights'; it takes weights, config"),
        (YOLO | {"threshold": 0.0}, "threshold must be a probability above 0 and below 1, got 0"),
        (YOLO | {"threshold": 25}, "threshold .* got 25"),
        (YOLO | {"nms_iou": 0.0}, "nms_iou must be above 0"),
        (YOLO | {"steepness": 0.0}, "steepness must be above 0"),
        (YOLO | {"image_size": -5}, "image_size must be at least 1 pixel, got -5"),
        (YOLO | {"image_size": 0}, "image_size must be at least 1 pixel, got 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load("yolo", **options)


@pytest.mark.parametrize("name", ["miniature-density", "miniature-fcos", "miniature-heatmap", "miniature-yolo"])
def test_records_tell_weights_of_one_name_apart(name: str, tmp_path: Path) -> None:
    found = miniature.DETECTORS[name]
    file = Path(found.options["weights"])
    copied = tmp_path / "best.safetensors"
    shutil.copyfile(file, copied)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    assert load(found.kind, **found.options).name == f"{found.kind}:{file.parent.name}-{digest}"
    assert load(found.kind, **found.options | {"weights": copied}).name == f"{found.kind}:best-{digest}"


def test_safetensors_need_the_architectures_yaml() -> None:
    with pytest.raises(ValueError, match="give config="):
        load("yolo", weights=YOLO["weights"])


def test_a_yaml_without_names_is_refused(tmp_path: Path) -> None:
    text = Path(YOLO["config"]).read_text()
    (tmp_path / "nameless.yaml").write_text(text[: text.index("names:")])
    with pytest.raises(ValueError, match="does not name its classes"):
        load("yolo", weights=YOLO["weights"], config=tmp_path / "nameless.yaml")


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    save_file({"model.0.conv.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="does not hold the weights"):
        load("yolo", weights=tmp_path / "other.safetensors", config=YOLO["config"])


@pytest.mark.parametrize(
    "noted",
    [
        {"object_names": "[" * 100_000},
        {"object_names": "3"},
        {"object_names": "[[1]]"},
        {"object_names": '"abc"'},
        {"object_names": '["a"]', "threshold": "nan"},
        {"object_names": '["a"]', "threshold": "7"},
    ],
    ids=["deep", "number", "lists", "text", "no threshold", "a high threshold"],
)
def test_metadata_of_another_form_is_a_value_error_that_names_the_file(noted: dict[str, str], tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "odd.safetensors", metadata=noted)
    with pytest.raises(ValueError, match=r"odd\.safetensors is damaged: its (object_names|threshold)"):
        load("fcos", weights=tmp_path / "odd.safetensors")


def test_a_yolo_takes_the_threshold_that_its_training_noted(tmp_path: Path) -> None:
    tensors, names, noted = weights.read(YOLO["weights"])
    assert load("yolo", **YOLO).settings.threshold == noted == 0.45
    weights.write(tmp_path / "retrained.safetensors", tensors, names, 0.3)
    retrained = YOLO | {"weights": tmp_path / "retrained.safetensors"}
    assert load("yolo", **retrained).settings.threshold == 0.3
    assert load("yolo", **retrained, threshold=0.6).settings.threshold == 0.6
    weights.write(tmp_path / "retrained.safetensors", tensors, names)
    assert load("yolo", **retrained).settings.threshold == PREDICT_THRESHOLD


@pytest.mark.parametrize("kind", ["ultralytics_rtdetr", "yolo_world"])
def test_a_yolo_is_refused_where_another_head_is_read(kind: str) -> None:
    embeddings = {"embeddings": {"apple": torch.ones(512)}} if kind == "yolo_world" else {}
    with pytest.raises(ValueError, match="ends in Detect"):
        load(kind, weights=YOLO["weights"], config=YOLO["config"], **embeddings)


def test_embeddings_must_be_one_vector_per_object(tmp_path: Path) -> None:
    text = Path(YOLO["config"]).read_text().replace("1, Detect, [nc]", "1, WorldDetect, [nc, 512, True]")
    (tmp_path / "world.yaml").write_text(text)
    from countgen.critics.ultralytics_files import build

    model, _ = build(tmp_path / "world.yaml")
    save_file(model.state_dict(), tmp_path / "world.safetensors")
    files: dict[str, Any] = {"weights": tmp_path / "world.safetensors", "config": tmp_path / "world.yaml"}
    with pytest.raises(ValueError, match="one vector of 512 per object name"):
        load("yolo_world", **files, embeddings={"apple": torch.ones(1, 512)})
    with pytest.raises(FileNotFoundError, match="safetensors file of text embeddings"):
        load("yolo_world", **files, embeddings=tmp_path / "none.safetensors")
    save_file({"red apple": torch.ones(512), "dog": torch.zeros(512)}, tmp_path / "words.safetensors")
    critic = load("yolo_world", **files, embeddings=tmp_path / "words.safetensors", image_size=64)
    assert critic.object_names == ("dog", "red apple")
    assert critic.counts(torch.rand(2, 3, 64, 64), ["red apples", "dog"]).shape == (2, 2)


def test_clip_embeddings_are_unit_vectors_of_a_stock_text_encoder(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, CLIPTextConfig, CLIPTextModelWithProjection

    tokenizer = AutoTokenizer.from_pretrained(miniature.FOLDER / "mini-sdxl-turbo" / "tokenizer")
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPTextConfig(vocab_size=len(tokenizer), projection_dim=24, eos_token_id=tokenizer.eos_token_id, **sizes)
    CLIPTextModelWithProjection(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    embeddings = yolo_world.clip_embeddings(["apple", "dog"], encoder=str(tmp_path))
    assert list(embeddings) == ["apple", "dog"]
    for row in embeddings.values():
        assert row.shape == (24,)
        assert row.norm().item() == pytest.approx(1)


@pytest.mark.parametrize("kind", ["owl", "grounding_dino", "detr", "sam3"])
def test_a_repository_that_cannot_be_read_names_the_presets(kind: str) -> None:
    with pytest.raises(ValueError, match=r"cannot download 'nobody/nothing'.*one of [a-z]"):
        load(kind, weights="nobody/nothing")


@pytest.mark.parametrize("kind", ["owl", "grounding_dino", "detr", "sam3", "vlm"])
@pytest.mark.parametrize("weights", ["nonsense", "/nowhere/model"])
def test_what_is_neither_a_folder_nor_a_repositorys_name_is_refused_without_asking_the_hub(
    kind: str, weights: str
) -> None:
    with pytest.raises(
        ValueError, match=f"^there is no folder '{weights}'; give one that exists, or a repository as OWNER/NAME"
    ):
        load(kind, weights=weights)
    with pytest.raises(ValueError, match=f"^there is no folder '{weights}'"):
        check_detectors([f"{kind}:{weights}"])


def test_the_cause_of_an_unreadable_repository_is_told(tmp_path: Path) -> None:
    """DETR's main revision wants the timm package; its preset is read at another."""
    config = {"model_type": "detr", "backbone": "resnet50", "use_timm_backbone": True, "backbone_config": None}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"needs a package that is not installed: .*timm"):
        load("detr", weights=str(tmp_path))
    with pytest.raises(ValueError, match=r"cannot download 'facebook/detr-resnet-50'"):
        load("detr", weights="detr-resnet-50")


def test_a_folder_written_by_transformers_is_loaded(tmp_path: Path) -> None:
    tiny = tiny_detectors.real_time_detr("rt_detr")
    tiny.model.config.id2label[1] = "N/A"
    for part in (tiny.model, tiny.image_processor):
        part.save_pretrained(tmp_path)
    critic = load("detr", weights=str(tmp_path), threshold=tiny.settings.threshold)
    assert (critic.name, critic.object_names) == (f"detr:{tmp_path.name}", ("apple", "car", "ball"))
    assert critic.max_count == 40
    images = rendered(4)
    assert torch.equal(critic.counts(images, ["apples", "car"]), tiny.counts(images, ["apple", "car"]))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_sam3_is_read_from_a_folder_and_refused_where_weights_are_missing(tmp_path: Path) -> None:
    tiny = tiny_detectors.sam3()
    for part in (tiny.model, tiny.image_processor, tiny.tokenizer):
        part.save_pretrained(tmp_path)
    critic = load("sam3", weights=str(tmp_path), threshold=tiny.settings.threshold)
    images = rendered(4)
    assert torch.equal(critic.counts(images, ["apple"]), tiny.counts(images, ["apple"]))
    assert (critic.max_count, critic.families) == (40, {"sam3"})
    tensors = load_file(tmp_path / "model.safetensors")
    renamed = {key.replace("text_encoder.", "elsewhere."): value for key, value in tensors.items()}
    save_file(renamed, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks \d+ weights of Sam3Model, such as text_encoder"):
        load("sam3", weights=str(tmp_path))


def test_owl_refuses_another_kind_of_model() -> None:
    from transformers import CLIPTextConfig, CLIPTextModel

    from countgen.critics.detectors.owl import OwlCritic

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = CLIPTextModel(CLIPTextConfig(vocab_size=99, **sizes))
    with pytest.raises(ValueError, match="expected owlv2 or owlvit"):
        OwlCritic(model, None, None, name="clip")


def test_torchvision_names_its_detectors_and_their_weights() -> None:
    with pytest.raises(ValueError, match=r"no detector 'yolo'; available: .*retinanet"):
        load("torchvision", weights="yolo")
    with pytest.raises(ValueError, match=r"no weights 'V9'; available: COCO_V1"):
        load("torchvision", weights="ssd300_vgg16", revision="V9")


@pytest.mark.parametrize(
    ("shape", "size", "expected", "left", "top"),
    [
        ((128, 128), 128, (128, 128), 0, 0),
        ((100, 200), 128, (64, 128), 0, 0),
        ((90, 120), 128, (96, 128), 0, 0),
        ((64, 64), 640, (640, 640), 0, 0),
        ((480, 500), 640, (640, 640), 0, 13),
        ((333, 500), 640, (448, 640), 0, 11),
    ],
)
def test_the_letterbox_is_ultralytics_own(
    shape: tuple[int, int], size: int, expected: tuple[int, int], left: int, top: int
) -> None:
    import numpy as np
    from ultralytics.data.augment import LetterBox

    squares, _, found_left, found_top = letterbox(torch.full((1, 3, *shape), 0.5), size, 32)
    stock = LetterBox(size, auto=True, stride=32)(image=np.full((*shape, 3), 128, np.uint8))
    assert squares.shape[-2:] == stock.shape[:2] == expected
    assert (found_left, found_top) == (left, top)
    padded = torch.from_numpy(stock[..., 0] == 114)
    torch.testing.assert_close((squares[0, 0] - 114 / 255).abs() < 1e-4, padded)


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
    ("field", "value"),
    [
        ("hidden_size", "x"),
        ("activation_function", "x"),
        ("backbone_config", {"model_type": "x"}),
        ("_attn_implementation", "evil/kernel"),
        ("quantization_config", {"quant_method": "bitsandbytes", "load_in_8bit": True}),
        ("max_position_embeddings", 10**12),
        ("decoder_layers", 10**9),
        ("model_type", "x"),
    ],
)
def test_a_config_that_cannot_be_built_is_one_line(field: str, value: Any, tmp_path: Path) -> None:
    tiny = tiny_detectors.detr()
    for part in (tiny.model, tiny.image_processor):
        part.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {field: value}))
    with pytest.raises(ValueError, match=r"config\.json: |cannot read AutoModelForObjectDetection from") as error:
        load("detr", weights=str(tmp_path))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


def test_files_that_contradict_each_other_are_an_error_while_loading(tmp_path: Path) -> None:
    tiny = tiny_detectors.real_time_detr("rt_detr")
    for part in (tiny.model, tiny.image_processor):
        part.save_pretrained(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"size": [1, 2]}))
    with pytest.raises(ValueError, match=r"cannot (count|read)") as error:
        load("detr", weights=str(tmp_path))
    assert "\n" not in str(error.value)


def test_a_pickle_behind_an_index_and_one_named_safetensors_are_not_read(tmp_path: Path) -> None:
    tiny = tiny_detectors.detr()
    for part in (tiny.model, tiny.image_processor):
        part.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(tiny.model.state_dict(), tmp_path / "x.bin")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"bias": "x.bin"}}))
    with pytest.raises(ValueError, match=r"names 'x\.bin'; only \.safetensors"):
        load("detr", weights=str(tmp_path))
    (tmp_path / "model.safetensors.index.json").unlink()
    (tmp_path / "x.bin").rename(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        load("detr", weights=str(tmp_path))


def test_a_file_that_is_not_an_image_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n{} loop\n")
    os.mkfifo(tmp_path / "pipe.png")
    critic = load("nanodet")
    for name, message in (("photo.png", "accepted are PNG, JPEG"), ("pipe.png", "is a pipe")):
        with pytest.raises(ValueError, match=message):
            critic.count(tmp_path / name, "person")
