"""Bad input is one line that helps and exit code 2, found before a model is loaded if possible."""

import os
import shlex
from pathlib import Path

import pytest
import torch

from countgen.app.cli import main
from countgen.images import save_png
from tests.app.conftest import ASSETS, BUS, ErrorOf, Images

PASSWORD = "COUNTGEN_DEMO_AUTH, or --auth"
BEFORE_A_MODEL = {
    "": {"draw": "No such command 'draw'", "'seven apples'": "Did you mean countgen generate 'seven apples'"},
    "generate": {
        "": "PROMPT",
        "seven apples": "put quotes around text with spaces",
        "--prompt 'seven apples'": "the prompt stands by itself",
        "'2 or 3 apples'": "several readings",
        "apples --out file.pt": "it is a file; give another one",
    },
    "generate 'seven apples'": {
        "--sed 3": "--seed",
        "--cfg-scale=7": "did you mean --guidance-scale?",
        "--size 99999": "768x512",
        "--name {{seed}}/{{prompt}}": "give the folder with --out",
        "--name {{secret}}": "{seed}",
        "--method plane": "Did you mean plain",
        "--seed 3-1": "0-3",
        "--seed 0-99999999": "at most 10000",
        "--seed 0-1 --images 2": "--images counts up from one seed",
        "--seed 4294967295 --images 2": "begin lower",
        "--device toaster": "use --device cpu",
        "--lora none.safetensors": "none.safetensors",
        "--token none": "no token 'none'",
        "--token file.safetensors": "file.safetensors",
        "--model minature": "id you mean miniature",
        "--model .": "model_index.json",
        "--model sdxl-turbo": "HF_HUB_OFFLINE",
        "--critic yolo:none.pt": "none.pt",
        "--draft": "no tiny decoder",
    },
    "count": {
        "{bus} none.jpg person": "no such file or folder: none.jpg",
        ". person": "has no image",
        "a.jpg person --model yolo11n.pt": "did you mean --critic?",
    },
    "count {bus}": {
        "": "no recipe says what to count",
        ",": "names no object",
        "person --boxes a.jpg": "end in .png for one image",
        "{assets} person --boxes a.png": "folder for several images",
        "{assets} person --boxes {bus}": "it is a file",
        "person,people": "one class of nanodet",
        "unicorn": "owl:owlv2-base (620 MB)",
        "apple --critic miniature-density --boxes a.png": "counts without boxes",
    },
    "edit {image}": {
        "cat": "NAME=COUNT",
        "cat=4 --out a.jpg": "must end in .png",
        "cat=4 --critic unicorn:best.pt": "unicorn",
        "cat=4 --critic miniature-yolo --judge miniature-yolo": "judge",
    },
    "calibrate": {
        "--object ''": "needs the name of an object",
        "--out a.txt": ".json",
        "--out file.json": "holds no calibration",
    },
    "tokens learn": {
        "0 --object apple": "'N'",
        "3 --object ,": "apple,dog",
        "3 --object apple --out token.pt": ".safetensors",
        "3 --object apple --out file.safetensors": "exists already",
    },
    "eval": {"": "--suite", "--suite none --out run": "no suite 'none'", "--images none.csv --out run": "none.csv"},
    "report": {".": "settings.json", ". none": "settings.json"},
    "label": {"none": "settings.json"},
    "demo": {
        **dict.fromkeys(("--share", "--host 0.0.0.0", "--host ::", "--host 127.0.0.2", "--host ''"), PASSWORD),
        **dict.fromkeys(("--auth user", "--auth :", "--auth ada:"), "USER:PASSWORD"),
        "--critic magic": "unknown detector 'magic'",
        "--model no-such-model": "no-such-model",
        "--model sdxl-turbo": "HF_HUB_OFFLINE",  # its detectors are not here, and nothing is downloaded
    },
}
"""Words after the beginning of a command line, and a helpful word of the message."""

WITH_A_MODEL = {
    "generate 'seven apples'": {
        "--size 127": "multiples of 4",
        "--negative-prompt blurry": "guidance",
        "--judge miniature-yolo": "judge",
        "--critic yolo:file.pt": "file.pt",
    },
    "generate": {"'seven unicorns'": "no class for 'unicorn'"},
    "edit {image}": {"cat=301": "at most 300 objects", "dog=3": "generated with cat=5"},
    "calibrate": {"--object unicorn": "unicorn"},
    "tokens learn": {
        "7 --object unicorn": "unicorn",
        "16 --object apple --num-vectors 4": "give num_vectors=5",
    },
}


def check(table: dict[str, dict[str, str]], error_of: ErrorOf, subtests: pytest.Subtests, image: Path) -> None:
    for name in ("file.pt", "file.safetensors", "file.json"):
        Path(name).write_bytes(b"nothing of use " * 9)
    here = sorted(os.listdir())
    paths = {
        "image": shlex.quote(str(image)),
        "bus": shlex.quote(BUS),
        "assets": shlex.quote(str(ASSETS)),
    }
    for beginning, rows in table.items():
        for words, help_given in rows.items():
            line = f"{beginning} {words}".format(**paths)
            with subtests.test(line=line):
                assert help_given in error_of(*shlex.split(line))
    assert [name for name in sorted(os.listdir()) if name not in ("images", "run")] == here
    assert Path("file.safetensors").read_bytes().startswith(b"nothing of use")


@pytest.mark.core
def test_what_no_model_is_needed_for(
    images: Images, no_model: None, error_of: ErrorOf, subtests: pytest.Subtests, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COUNTGEN_DEMO_AUTH", raising=False)
    check(BEFORE_A_MODEL, error_of, subtests, images["plain"])
    monkeypatch.setenv("COUNTGEN_DEMO_AUTH", "ada")
    assert "USER:PASSWORD" in error_of("demo")
    with pytest.raises(SystemExit, match="a model was read"):
        main(["reproduce", str(images["plain"])])


def test_what_only_the_models_know(
    images: Images, error_of: ErrorOf, subtests: pytest.Subtests, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check(WITH_A_MODEL, error_of, subtests, images["plain"])


@pytest.mark.core
def test_a_file_without_a_recipe_a_missing_one_and_a_pipe(tmp_path: Path, error_of: ErrorOf) -> None:
    pipe, empty = tmp_path / "a.safetensors", save_png(torch.zeros(3, 8, 8), tmp_path / "a.png")
    os.mkfifo(pipe)
    for command, *more in (["reproduce"], ["edit", "cat=3"]):
        assert "holds no recipe" in error_of(command, empty, *more)
        assert "none.png: No such file or directory" in error_of(command, tmp_path / "none.png", *more)
        assert "is a pipe; give a regular file" in error_of(command, pipe, *more)
    assert "is a pipe" in error_of("generate", "seven apples", "--token", pipe, "--out", tmp_path)


def test_code_in_a_checkpoint_runs_only_if_the_user_trusts_it(
    images: Images, tmp_path: Path, error_of: ErrorOf
) -> None:
    checkpoint = tmp_path / "other.pt"
    torch.save({"model": 3}, checkpoint)
    for command in (["edit", images["plain"], "cat=4"], ["calibrate", "--out", tmp_path / "a.json"]):
        command = [*command, "--critic", f"yolo:{checkpoint}"]
        assert "--trust-checkpoint" in error_of(*command)
        assert "was trusted and gave no detector" in error_of(*command, "--trust-checkpoint")
