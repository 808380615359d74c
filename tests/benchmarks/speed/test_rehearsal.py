"""Published models with random weights go through the command, offline, from the files of their repositories."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from countgen.app import cli
from countgen.backbones import presets
from countgen.benchmarks.speed import process, rehearsal
from countgen.benchmarks.speed.models import MODELS
from countgen.benchmarks.speed.process import Finished
from countgen.benchmarks.speed.published import MAIN, SHARDS, Home, write_detectors, write_model
from countgen.benchmarks.speed.rehearsal import Rehearsed

ONE_OF_EACH_FAMILY = {family: name for name, (family, _) in reversed(presets().items()) if name in MODELS}.values()
"""`python -m countgen.benchmarks.speed.rehearsal --size tiny` runs them all."""

STORED = (torch.float16, torch.bfloat16)


def test_a_model_is_written_as_its_repository_is_published(tmp_path: Path) -> None:
    home = Home(tmp_path)
    write_model("pixart-dmd", "tiny", torch.float32, home)
    home.link_blobs()
    hub = tmp_path / "huggingface" / "hub"
    preset = presets()["pixart-dmd"][1]
    repository = hub / "models--PixArt-alpha--PixArt-XL-2-512x512"
    assert (repository / "refs" / "main").read_text() == preset.revision
    snapshot = repository / "snapshots" / str(preset.revision)
    assert (snapshot / "text_encoder" / "model.safetensors.index.json").is_file()
    assert len(list((snapshot / "text_encoder").glob("model-0000?-of-0000?.safetensors"))) > 1
    named = {path.name for path in (snapshot / "tokenizer").iterdir()}
    assert named == {"added_tokens.json", "special_tokens_map.json", "spiece.model", "tokenizer_config.json"}
    files = [path for path in snapshot.rglob("*") if not path.is_dir()]
    assert all(path.is_symlink() and path.resolve().parent == repository / "blobs" for path in files)
    assert list(hub.glob("models--PixArt-alpha--PixArt-Alpha-DMD-*/snapshots/*/transformer/*.safetensors"))


def test_detectors_are_written_where_their_libraries_look(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert write_detectors("tiny", home)[0] == "yolo:yolo11m"
    assert (home.folder / "huggingface/hub/models--Ultralytics--YOLO11/snapshots" / MAIN / "yolo11m.pt").is_file()
    assert len(list((tmp_path / "torch" / "hub" / "checkpoints").glob("*.pth"))) == 1


def test_what_is_published_in_several_files_is_a_preset() -> None:
    assert set(SHARDS) <= set(MODELS)


@pytest.mark.slow
def test_a_command_runs_in_a_process_of_its_own_that_is_measured(tmp_path: Path) -> None:
    (one,) = rehearsal.rehearse("sd-turbo", "tiny", ("generate",), "float32", 64, tmp_path, None)
    assert one.code in rehearsal.FINISHED, one.said
    assert one.peak > one.predicted / 4
    assert one.private is not None
    assert one.peak > one.private > one.predicted / 4  # the rest of the peak is mapped files
    assert one.seconds > 0


def run_here(arguments: Sequence[str], environment: dict[str, str], *, limit: float | None) -> Finished:
    """Stands in for `process.run` without the seconds that a new process takes to import the libraries."""
    assert limit is None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_CACHE", str(Path(environment["HF_HOME"]) / "hub"))
        patch.setenv("TORCH_HOME", environment["TORCH_HOME"])
        code = cli.main(arguments[2:])
    return Finished(1.0, 1.0, 1.0, 1, 1, code, "")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of the libraries, which a process of its own would print
@pytest.mark.parametrize("name", ONE_OF_EACH_FAMILY)
def test_a_preset_of_every_family_goes_through_the_command(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "run", run_here)
    commands = rehearsal.COMMANDS if name == "sd-turbo" else ("generate",)
    done = list(rehearsal.rehearse(name, "tiny", commands, "float32", 64, tmp_path, None))
    assert [one.command for one in done if one.code in rehearsal.FINISHED] == list(commands)
    assert all(one.predicted > 0 for one in done)
    assert not any(tmp_path.iterdir())


def test_a_file_that_is_converted_counts_while_it_is_read() -> None:
    same, converted = (rehearsal.loading("sd-turbo", "tiny", "float16", stored) for stored in STORED)
    weights = same - rehearsal.WORKSPACE
    assert weights < converted - rehearsal.WORKSPACE < 2 * weights + 1  # bfloat16 takes what float16 takes


def test_results_of_the_same_command_replace_each_other(tmp_path: Path) -> None:
    first = Rehearsed("sd-turbo", "full", "generate", 256, "float32", 2.0, 1.0, 2**30, 1, "", 2**31)
    again, other = Rehearsed(**{**asdict(first), "seconds": 3.0}), Rehearsed(**{**asdict(first), "pixels": 512})
    for one in (first, other, again):
        rehearsal.keep(one, tmp_path / "out.json")
    assert rehearsal.read(tmp_path / "out.json") == [other, again]
    assert rehearsal.table([first])[-1] == "| sd-turbo | generate | 256 | float32 | 1 | 1.00 | - | 2.00 | 1 |"
    assert len(json.loads((tmp_path / "out.json").read_text())) == 2


def test_an_edit_of_what_was_not_generated_is_left_out(tmp_path: Path) -> None:
    (only,) = rehearsal.rehearse("sd-turbo", "tiny", ("generate", "edit"), "float32", 64, tmp_path, limit=0.01)
    assert only.command == "generate"
    assert only.code not in rehearsal.FINISHED


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--commands", "draw"], "no command 'draw'"),
        (["--commands", "edit"], "edit needs the image of generate"),
        (["--models", "foo"], "no model 'foo'"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        rehearsal.main(arguments)
    assert message in capsys.readouterr().err
