import json
import os
import pkgutil
import pty
import re
import signal
import subprocess
import sys
import termios
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from countgen.app.argument_types import seeds_in
from countgen.app.cli import main
from countgen.app.doctor import OPTIONAL_PACKAGES, PACKAGES
from countgen.app.image_files import slug
from countgen.app.interrupts import held_interrupts
from countgen.images import read_recipe
from tests.app.standard_error import errors_in

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "diffusers", "transformers", "ultralytics", "inflect", "numpy", "PIL", "gradio", "matplotlib", "ray")


def exit_code(arguments: list[str]) -> int:
    """The exit code, whether the parser or the command refused."""
    try:
        return main(arguments)
    except SystemExit as error:
        return int(error.code or 0)


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from countgen.app.cli import main\n"
        "try: main(sys.argv[1:])\n"
        f"except SystemExit as error: print(error.code, [m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "0 []"


@pytest.mark.parametrize(("given", "used"), [({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")])
def test_waiting_threads_sleep_unless_the_user_says_otherwise(given: dict[str, str], used: str) -> None:
    script = "import os; from countgen.app.cli import main; main([]); print(os.environ['OMP_WAIT_POLICY'])"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | given
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True, env=environment
    )
    assert done.stdout.splitlines()[-1] == used


BAD_INPUT = [
    (["draw"], "invalid choice: 'draw'"),
    (["gnerate", "seven apples"], "did you mean generate?"),
    (["seven apples"], "did you mean countgen generate 'seven apples'?"),
    (["generate", "seven", "apples"], "unrecognized arguments: apples; put quotes around text with spaces"),
    (["generate", "--prompt", "seven apples"], "the prompt stands by itself"),
    (["generate"], "PROMPT"),
    (["generate", "seven apples", "--method", "magic"], "invalid choice: 'magic'"),
    (["generate", "seven apples", "--method", "plane"], "did you mean plain?"),
    (["generate", "seven apples", "--sed", "3"], "unrecognized arguments: --sed 3; did you mean --seed?"),
    (["generate", "seven apples", "--cfg-scale=7"], "did you mean --guidance-scale?"),
    (["generate", "seven apples", "--width", "512"], "did you mean --size?"),
    (["count", "a.jpg", "person", "--model", "yolo11n.pt"], "did you mean --critic?"),
    (["generate", "seven apples", "--name", "{{seed}}/{{prompt}}"], "is no file name; give the folder with --out"),
    (["generate", "seven apples", "--name", "{{secret}}"], "known are {prompt}, {seed}"),
    (["generate", "seven apples", "--name", "{{seed"], "is no template"),
    (["generate", "seven apples", "--seed", "3-1"], "must run upwards"),
    (["generate", "seven apples", "--seed", "-2"], "or -1 for a random one"),
    (["generate", "seven apples", "--seed", "0-99999999"], "at most 10000 seeds"),
    (["generate", "seven apples", "--images", "0"], "no whole number from 1"),
    (["generate", "seven apples", "--max-seconds", "nan"], "no number of seconds above 0"),
    (["generate", "seven apples", "--max-steps", "1.5"], "no whole number from 1"),
    (["generate", "seven apples", "--seed", "0-1", "--images", "2"], "--images counts up from one seed"),
    (["generate", "seven apples", "--count", "apple"], "NAME=COUNT"),
    (["generate", "", "--count", "apple=7"], "the prompt is empty"),
    (["generate", "seven apples", "--device", "cuda:99"], "no device 'cuda:99' here"),
    (["generate", "seven apples", "--device", "toaster"], "no device 'toaster' here"),
    (["generate", "seven apples", "--model", "minature"], "id you mean miniature"),
    (["generate", "seven apples", "--judge", "miniature-yolo"], "judge"),
    (
        ["generate", "seven apples", "--model", "sdxl-turbo"],
        "HF_HUB_OFFLINE is set and files are missing: yolo:yolo",
    ),
    (["generate", "seven apples", "--model", "sdxl-turbo", "--judge", "torch:x"], "unknown critic 'torch'"),
    (["generate", "seven apples", "--steps", "2"], "did you mean --num-inference-steps?"),
    (["generate", "seven apples", "--negative-prompt", "blurry"], "a negative prompt needs guidance"),
    (["generate", "seven apples", "--scheduler", "EulerScheduler"], "diffusers has no scheduler 'EulerScheduler'"),
    (["generate", "seven apples", "--dtype", "int8"], "invalid choice: 'int8'"),
    (["generate", "seven apples", "--lora", "none.safetensors"], "no LoRA 'none.safetensors'"),
    (
        ["generate", "seven apples", "--model", "owner/none"],
        "model_index.json of owner/none is not in the hub's cache",
    ),
    (["generate", "seven unicorns"], "no class for 'unicorn'"),
    (["generate", "seven apples", "--seed", "9999999999"], "a seed must be from 0 to 4294967295"),
    (["generate", "seven apples", "--seed", "4294967295", "--images", "2"], "got 4294967296; begin lower"),
    (["generate", "seven apples", "--device", "meta"], "no device 'meta' here"),
    (["generate", "seven apples", "--device", "xla"], "no device 'xla' here"),
    (["generate", "seven apples", "--critic", "yolo:{damaged}.pt"], "cannot read yolo from"),
    (["generate", "seven apples", "--critic", "centernet:{damaged}.safetensors"], "cannot read centernet from"),
    (["generate", "zero apples"], "the smallest target is 1"),
    (["generate", "seven \udcff apples"], r"character 7 of the prompt is '\udcff', which is not text"),
    (["generate", "a cat", "--count", "cat=2", "--model", "\udcff"], r"the model '\udcff' is not there"),
    (["generate", "-2 apples"], "not one whole number above zero"),
    (["generate", "300 apples"], "at most"),
    (["generate", "1001 apples"], "from 1 to 1000"),
    (["generate", "two very " + 500 * "very " + "red apples"], "at most 500 are read"),
    (["generate", "seven apples", "--seed", "18446744073709551616"], "a seed must be from 0 to 4294967295"),
    (["generate", "seven apples", "--images", "10001"], "--images must be at most 10000"),
    (["generate", "seven apples", "--images", "9" * 99], "'" + "9" * 59 + "…' is no whole number"),
    (["generate", "seven apples", "--size", "99999"], "from 1 to 4096 pixels"),
    (["generate", "seven apples", "--num-inference-steps", "1001"], "no whole number from 1 to 1000"),
    (["generate", "seven apples", "--size", "127"], "multiples of 4"),
    (["generate", "seven apples", "--size", "0"], "from 1 to 4096 pixels"),
    (["generate", "seven apples", "--critic", "yolo:none.pt"], "none.pt"),
    (["generate", "seven apples", "--critic", "yolo:."], "no such file: ."),
    (["generate", "seven apples", "--token", "none"], "no token 'none'"),
    (["generate", "seven apples", "--token", "{damaged}.pt"], "damaged.pt"),
    (["generate", "seven apples", "--token", "{damaged}.safetensors"], "holds no valid count token"),
    (["generate", "seven apples", "--out", "{damaged}.pt"], "it is a file; give another one"),
    (["generate", "seven apples", "--model", "none"], "the model 'none' is not there"),
    (["generate", "seven apples", "--model", "./none"], "the model './none' is not there"),
    (["generate", "seven apples", "--model", "none.safetensors"], "the model 'none.safetensors' is not there"),
    (["generate", "seven apples", "--model", ""], "the model '' is not there"),
    (["generate", "seven apples", "--model", "."], ". is a folder without a model_index.json"),
    (["generate", "seven apples", "--model", "{damaged}.pt"], "damaged.pt is not a .safetensors file"),
    (
        ["generate", "seven apples", "--model", "{damaged}.safetensors"],
        "damaged.safetensors are damaged or cut short",
    ),
    (["reproduce", "none.png"], "none.png: No such file"),
    (["reproduce", "."], ". is a folder; give a regular file"),
    (["reproduce", "{damaged}.pt"], "damaged.pt cannot be read as a PNG: not a PNG file"),
    (["tokens", "--model", "minature"], "id you mean miniature"),
    (["learn-token", "0", "--object", "apple"], "no whole number from 1"),
    (["learn-token", "300", "--object", "apple"], "at most"),
    (["learn-token", "3", "--object", ""], "holds no name; write apple,dog"),
    (["learn-token", "3", "--object", "apple", "--learning-rate", "nan"], "no number above 0"),
    (["learn-token", "3", "--object", "apple", "--semantic-weight", "inf"], "no number of 0 or above"),
    (["learn-token", "3", "--object", "apple", "--seed", "-1"], "from 0 to 4294967295"),
    (["learn-token", "3", "--object", "apple", "--loss", "l3"], "choose from 'l1', 'd2d', 'margin'"),
    (["eval", "--suite", "none", "--out", "run"], "no suite 'none'"),
    (["eval", "--suite", "t2icountbench-miniature", "--out", "{damaged}.pt"], "damaged.pt"),
    (["report", "."], "no settings.json"),
    (["label", "none"], "no settings.json"),
    (["demo", "--critic", "magic"], "unknown detector 'magic'"),
]


def test_without_a_command_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "generate images" in capsys.readouterr().out


def test_bad_input_is_one_line_and_exit_code_2(
    subtests: pytest.Subtests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, reason in BAD_INPUT:
        with subtests.test(arguments=arguments):
            monkeypatch.chdir(tmp_path)
            for suffix in (".pt", ".safetensors"):
                (tmp_path / "damaged").with_suffix(suffix).write_bytes(b"no weights at all" * 9)
            assert exit_code([argument.format(damaged="damaged") for argument in arguments]) == 2
            (error,) = errors_in(capsys.readouterr().err)
            assert error.startswith("countgen")
            assert reason in error
            assert not list(tmp_path.glob("**/*.png"))


def test_folder_is_checked_before_anything_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["generate", "apples", "--model", "none", "--out", str(tmp_path / "file" / "b")]) == 2
    assert "cannot write to the folder" in capsys.readouterr().err


def test_prompt_is_checked_before_the_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "2 or 3 apples", "--model", "none", "--out", str(tmp_path)]) == 2
    assert "several readings" in capsys.readouterr().err


def test_too_little_memory_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("countgen.load", lambda *_, **__: torch.empty(2**60))
    assert main(["generate", "two apples", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("countgen: error: there is not enough memory; a smaller --size")


def test_traceback_on_request(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="contains no number"):
        main(["--traceback", "generate", "apples", "--out", str(tmp_path)])


def test_generate_reaches_the_count_and_writes_both_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["generate", "a photo of two apples", "--seed", "0-1", "--out", str(tmp_path), "--json"])
    output = json.loads(capsys.readouterr().out)
    assert [image["seed"] for image in output["images"]] == [0, 1]
    assert code == (0 if output["right"] == 2 else 1)
    for image in output["images"]:
        recipe = read_recipe(image["after"])
        assert image["targets"] == {"apple": 2}
        assert image["verified"] == (image["judge_counts"] == [2])
        assert recipe["prompt"] == "a photo of two apples"
        assert recipe["judge_counts"] == image["judge_counts"]
        before = read_recipe(image["before"])
        assert before["method"] == "plain"
        assert before["candidate_seed"] == image["seed"]
        assert "judge_counts" not in before
    assert sorted(os.listdir(tmp_path)) == [
        f"a-photo-of-two-apples-{seed}-{when}.png" for seed in (0, 1) for when in ("after", "before")
    ]


def test_a_random_seed_is_said_and_a_grid_and_names_by_a_template_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["generate", "two cats", "--method", "plain", "--seed", "-1", "--images", "3", "--grid", "--json"]
    assert main([*arguments, "--name", "{counts}_{seed}", "--out", str(tmp_path)]) in (0, 1)
    output = json.loads(capsys.readouterr().out)
    first, second, third = (image["seed"] for image in output["images"])
    assert (second, third) == (first + 1, first + 2)
    assert output["images"][0]["after"] == str(tmp_path / f"cat-2_{first}-after.png")
    with Image.open(output["grid"]) as grid, Image.open(output["images"][1]["after"]) as image:
        assert grid.size == (256, 256)
        assert grid.crop((128, 0, 256, 128)).tobytes() == image.tobytes()


def test_a_size_far_from_the_models_own_warns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["generate", "two cats", "--method", "plain", "--out", str(tmp_path)]
    main([*arguments, "--size", "64"])
    assert "warning: miniature is made for 128x128: at 64x64 expect objects that are cut" in capsys.readouterr().err
    main([*arguments, "--size", "128"])
    assert "warning" not in capsys.readouterr().err


def test_generate_again_overwrites_nothing_and_gives_the_same_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["generate", "three cats", "--method", "plain", "--out", str(tmp_path), "--quiet"]
    assert main(arguments) == main(arguments)
    assert capsys.readouterr().out == ""
    names = ("three-cats-0-after.png", "three-cats-0-2-after.png")
    first, second = (Image.open(tmp_path / name) for name in names)
    with first, second:
        assert first.tobytes() == second.tobytes()


def test_a_count_that_is_not_reached_is_exit_code_1_and_still_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["generate", "one cat", "--count", "cat=12", "--max-steps", "1", "--out", str(tmp_path)]
    assert main(arguments) == 1
    output = capsys.readouterr().out
    assert re.match(r"seed 0: \d+ of 12 cats \(judge.*\), \d+ cats? too few, after \d+ evaluations?, ", output)
    assert "  before: " in output
    assert len(os.listdir(tmp_path)) == 2
    with Image.open(tmp_path / "one-cat-0-after.png") as image:
        (seed,) = re.findall(r"Seed: (\d+)", image.info["parameters"])
    assert (f", found at seed {seed}" in " ".join(output.split())) == (seed != "0")


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "columns", "ignored"), [(signal.SIGINT, 120, ""), (signal.SIGTERM, 40, "INT")])
def test_interrupting_keeps_the_best_so_far(sent: signal.Signals, columns: int, ignored: str, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()  # a terminal, so that the progress line tells when the work has begun
    termios.tcsetwinsize(ours, (24, columns))
    arguments = ["generate", "one cat", "--count", "cat=12", "--max-seconds", "60", "--out", str(tmp_path)]
    environment = {**os.environ, "TERM": "dumb", "COLUMNS": str(columns)}
    command = [sys.executable, "-m", "countgen.app.cli", *arguments]
    if ignored:  # as in a shell's background job
        command = ["sh", "-c", f"trap '' {ignored}; exec \"$@\"", "sh", *command]
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)  # or tests in the background would hand theirs on
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment)
    signal.signal(signal.SIGINT, usual)
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # the terminal closes with a process that fails
        while b"of 12 cats (critic)" not in shown:
            shown += os.read(ours, 4096)
    process.send_signal(sent)
    output, _ = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 130, shown.decode()
    lines = re.split(r"[\r\n]+", shown.decode())
    assert max(map(len, lines)) < columns, lines  # nothing wraps, and no bar of the loading stands before it
    assert any(re.match(r"seed 0: \d+ of 12 cats \(critic\)", line) for line in lines)
    assert sum(line.startswith("loading miniature (") for line in lines) == 1
    assert "\x1b" not in shown.decode()
    assert b"of 12 cats (judge" in output
    assert sorted(os.listdir(tmp_path)) == ["one-cat-0-after.png", "one-cat-0-before.png"]


@pytest.mark.parametrize(
    ("moment", "sent"),
    [("countgen.run.Run.result", signal.SIGINT), ("countgen.images.save_png", signal.SIGTERM)],
)
def test_interrupting_while_a_picture_is_judged_or_written_still_writes_it(
    moment: str,
    sent: signal.Signals,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    module, _, name = moment.rpartition(".")
    owner = pkgutil.resolve_name(module)
    real = getattr(owner, name)

    presses = iter([sent])

    def pressed(*arguments: Any, **options: Any) -> Any:
        for key in presses:
            signal.raise_signal(key)
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, pressed)
    usual = signal.getsignal(signal.SIGINT)
    assert main(["generate", "one cat", "--method", "plain", "--images", "3", "--out", str(tmp_path)]) == 130
    assert "seed 0: " in capsys.readouterr().out
    assert sorted(os.listdir(tmp_path)) == ["one-cat-0-after.png", "one-cat-0-before.png"]
    assert signal.getsignal(signal.SIGINT) is usual


def test_the_second_ctrl_c_does_not_wait() -> None:
    with held_interrupts() as held:
        signal.raise_signal(signal.SIGINT)
        assert held.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_doctor_finds_this_installation_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["healthy"]
    assert {"python", "torch", "device", "miniature", "model cache"} <= {check["name"] for check in output["checks"]}


def test_doctor_looks_for_everything_that_is_installed_with_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {name for extra in ("demo", "report", "ray") for name in project["optional-dependencies"][extra]}
    assert set(PACKAGES) == {re.match(r"[\w-]+", one)[0] for one in project["dependencies"]}
    assert set(OPTIONAL_PACKAGES) == {re.match(r"[\w-]+", one)[0] for one in extras}


def test_doctor_reports_a_cache_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file"))
    assert main(["doctor"]) == 1
    assert "FAIL model cache" in capsys.readouterr().out


def test_a_reader_that_goes_away_is_no_fault() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "countgen.app.cli", "completion", "bash"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=60) == 141
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()


@pytest.mark.parametrize(("text", "seeds"), [("7", [7]), ("0-3", [0, 1, 2, 3]), ("5-5", [5])])
def test_seeds_are_read(text: str, seeds: list[int]) -> None:
    assert seeds_in(text) == seeds


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("A photo of 7 apples!", "a-photo-of-7-apples"),
        ("🍎", "image"),
        ("../../etc", "etc"),
        ("a " * 90, "a-" * 29 + "a"),
    ],
)
def test_file_names_are_harmless(prompt: str, name: str) -> None:
    assert slug(prompt) == name
