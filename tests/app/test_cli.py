"""What every command promises: help without heavy imports, exit codes, one line for bad input, and interruptions."""

import json
import os
import pkgutil
import pty
import re
import resource
import signal
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch
from PIL import Image

from countgen import options as library_options
from countgen.app.cli import main
from countgen.app.commands import COMMANDS, command_of
from countgen.app.generate import seeds_in
from countgen.app.image_files import slug
from countgen.app.interrupts import held_interrupts
from countgen.app.options import Limits
from countgen.app.report import Export
from countgen.benchmarks.evaluation.suite_export import FORMATS
from countgen.images import read_recipe
from tests.app.standard_error import errors_in

HEAVY = ("torch", "diffusers", "transformers", "ultralytics", "inflect", "numpy", "PIL", "gradio", "matplotlib", "ray")


def countgen(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "countgen", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)


@pytest.mark.parametrize("words", [[], ["--help"], ["generate", "--help"], ["report", "--help"], ["tokens", "--help"]])
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    script = (
        "import sys; from countgen.app.cli import main; code = main(sys.argv[1:])\n"
        f"print(code, [module for module in {HEAVY} if module in sys.modules])"
    )
    command = [sys.executable, "-c", script, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained_in_40_columns_and_in_plain_text(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = command_of(name)
    assert command.help
    assert [option.name for option in command.params if not option.help] == []
    if name != "demo":
        assert "--json" in {spelling for option in command.params for spelling in option.opts}
    monkeypatch.setenv("COLUMNS", "40")
    assert main([*name.split(), "--help"]) == 0
    output = capsys.readouterr().out
    assert "\x1b" not in output
    assert max(map(len, output.splitlines())) <= 40


def test_python_without_docstrings_prints_help() -> None:
    done = countgen("generate", "--help", env=os.environ | {"PYTHONOPTIMIZE": "2"})
    assert done.returncode == 0
    assert "generate images" in done.stdout


def test_choices_are_those_of_the_library() -> None:
    assert get_args(get_type_hints(Limits)["until"]) == library_options.UNTIL
    assert get_args(get_args(get_type_hints(Export)["export"])[0]) == FORMATS
    shown = next(one for one in command_of("generate").params if one.name == "max_evaluations").show_default
    assert str(library_options.DEFAULT_MAX_EVALUATIONS) in shown


@pytest.mark.parametrize(
    ("words", "completed"),
    [("", "generate"), ("tokens ", "learn"), ("generate --s", "--seed"), ("generate --method ", "search")],
)
def test_shells_complete_commands_options_and_choices(words: str, completed: str) -> None:
    variables = {"_COUNTGEN_COMPLETE": "complete_bash", "COMP_WORDS": f"countgen {words}"}
    variables["COMP_CWORD"] = str(len(f"countgen {words}".split(" ")) - 1)
    done = countgen(env=os.environ | variables)
    assert completed in done.stdout.split()


@pytest.mark.parametrize(("given", "used"), [({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")])
def test_waiting_threads_sleep_unless_the_user_says_otherwise(
    given: dict[str, str], used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    main(["--version"])
    assert os.environ["OMP_WAIT_POLICY"] == used


USAGE = [
    (["draw"], "No such command 'draw'"),
    (["gnerate", "seven apples"], "Did you mean 'generate'"),
    (["seven apples"], "Did you mean countgen generate 'seven apples'"),
    (["generate", "seven", "apples"], "put quotes around text with spaces"),
    (["generate", "--prompt", "seven apples"], "the prompt stands by itself"),
    (["generate"], "PROMPT"),
    (["generate", "seven apples", "--sed", "3"], "--seed"),
    (["generate", "seven apples", "--cfg-scale=7"], "did you mean --guidance-scale?"),
    (["count", "a.jpg", "person", "--model", "yolo11n.pt"], "did you mean --critic?"),
    (["generate", "seven apples", "--images", "0"], "--images"),
    (["generate", "seven apples", "--images", "9" * 5000], "--images"),
    (["generate", "seven apples", "--max-seconds", "nan"], "--max-seconds"),
    (["generate", "seven apples", "--max-steps", "1.5"], "--max-steps"),
    (["generate", "seven apples", "--size", "99999"], "768x512"),
    (["generate", "seven apples", "--out", "a\0b"], "null"),
    (["generate", "seven apples", "--dtype", "int8"], "'float16'"),
    (["generate", "seven apples", "--name", "{{seed}}/{{prompt}}"], "give the folder with --out"),
    (["generate", "seven apples", "--name", "{{secret}}"], "{seed}"),
    (["generate", "seven apples", "--name", "{{seed"], "is not a template"),
    (["tokens", "learn", "0", "--object", "apple"], "'N'"),
]
"""Command lines that the parser rejects, and a helpful word of the message."""

VALUES = [
    (["generate", "seven apples", "--method", "plane"], "Did you mean plain?"),
    (["generate", "seven apples", "--seed", "3-1"], "0-3"),
    (["generate", "seven apples", "--seed", "-2"], "-1 for a random one"),
    (["generate", "seven apples", "--seed", "0-99999999"], "at most 10000"),
    (["generate", "seven apples", "--seed", "0-1", "--images", "2"], "--images counts up from one seed"),
    (["generate", "seven apples", "--seed", "4294967295", "--images", "2"], "begin lower"),
    (["generate", "seven apples", "--count", "apple"], "NAME=COUNT"),
    (["generate", "seven apples", "--max-seconds", "0"], "seconds"),
    (["generate", "", "--count", "apple=7"], "the prompt is empty"),
    (["generate", "seven \udcff apples"], r"\udcff"),
    (["generate", "1001 apples"], "from 1 to 1000"),
    (["generate", "seven unicorns"], "no class for 'unicorn'"),
    (["generate", "seven apples", "--device", "toaster"], "use --device cpu"),
    (["generate", "seven apples", "--device", "meta"], "use --device cpu"),
    (["generate", "seven apples", "--size", "127"], "multiples of 4"),
    (["generate", "seven apples", "--negative-prompt", "blurry"], "guidance"),
    (["generate", "seven apples", "--scheduler", "EulerScheduler"], "EulerScheduler"),
    (["generate", "seven apples", "--lora", "none.safetensors"], "none.safetensors"),
    (["generate", "seven apples", "--token", "none"], "no token 'none'"),
    (["generate", "seven apples", "--token", "{damaged}.safetensors"], "damaged"),
    (["generate", "seven apples", "--out", "{damaged}.pt"], "it is a file; give another one"),
    (["generate", "seven apples", "--model", "minature"], "id you mean miniature"),
    (["generate", "seven apples", "--model", "owner/none"], "owner/none"),
    (["generate", "seven apples", "--model", "{damaged}.safetensors"], "damaged.safetensors"),
    (["generate", "seven apples", "--model", "."], "model_index.json"),
    (["generate", "seven apples", "--model", "sdxl-turbo"], "HF_HUB_OFFLINE"),
    (["generate", "seven apples", "--judge", "miniature-yolo"], "judge"),
    (["generate", "seven apples", "--critic", "yolo:{damaged}.pt"], "damaged.pt"),
    (["generate", "seven apples", "--critic", "yolo:none.pt"], "none.pt"),
    (["reproduce", "none.png"], "No such file"),
    (["reproduce", "{damaged}.pt"], "damaged.pt"),
    (["tokens", "--model", "minature"], "id you mean miniature"),
    (["tokens", "learn", "3", "--object", ","], "apple,dog"),
    (["tokens", "learn", "3", "--object", "apple", "--loss", "l3"], "margin"),
    (["tokens", "learn", "3", "--object", "apple", "--semantic-weight", "inf"], "semantic_weight"),
    (["tokens", "learn", "300", "--object", "apple"], "at most"),
    (["eval", "--suite", "none", "--out", "run"], "no suite 'none'"),
    (["eval", "--images", "none.csv", "--out", "run"], "none.csv"),
    (["eval", "--suite", "t2icountbench-miniature", "--out", "{damaged}.pt"], "damaged.pt"),
    (["eval"], "--suite"),
    (["report", "."], "settings.json"),
    (["report", ".", "none"], "settings.json"),
    (["label", "none"], "settings.json"),
    (["demo", "--host", "0.0.0.0"], "password"),
    (["demo", "--critic", "magic"], "unknown detector 'magic'"),
]
"""Values that the library rejects, and a helpful word of the message."""


@pytest.mark.parametrize(("table", "beginning"), [(USAGE, "countgen"), (VALUES, "countgen: error: ")])
def test_bad_input_is_one_line_and_exit_code_2(
    table: list[tuple[list[str], str]],
    beginning: str,
    subtests: pytest.Subtests,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for suffix in (".pt", ".safetensors"):
        (tmp_path / "damaged").with_suffix(suffix).write_bytes(b"no weights at all" * 9)
    for arguments, word in table:
        with subtests.test(arguments=arguments):
            assert main([argument.format(damaged="damaged") for argument in arguments]) == 2
            (error,) = errors_in(capsys.readouterr().err)
            assert error.startswith(beginning)
            assert word in error
            assert not list(tmp_path.glob("**/*.png"))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["generate", "apples", "--out", "{file}/b"], "cannot write to the folder"),
        (["generate", "2 or 3 apples", "--out", "{folder}"], "several readings"),
    ],
)
def test_folder_and_prompt_are_checked_before_a_model(
    arguments: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    words = [argument.format(file=tmp_path / "file", folder=tmp_path) for argument in arguments]
    assert main([*words, "--model", "none"]) == 2
    assert reason in capsys.readouterr().err


def test_too_little_memory_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("countgen.load", lambda *_, **__: torch.empty(2**60))
    assert main(["generate", "two apples", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("countgen: error: there is not enough memory; a smaller --size")


def test_traceback_on_request(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="contains no number"):
        main(["--traceback", "generate", "apples", "--out", str(tmp_path)])


def closed_output() -> None:
    os.close(1)


def few_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (5, 5))


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"preexec_fn": closed_output}, (0, 1)),
        ({"preexec_fn": few_files}, (0, 1, 2)),
        ({"env": os.environ | {"PYTHONWARNINGS": "error"}}, (0, 1, 2)),
        ({"env": os.environ | {"PYTHONOPTIMIZE": "2"}}, (0, 1, 2)),
    ],
)
def test_an_odd_environment_is_no_traceback(options: dict[str, Any], code: tuple[int, ...], tmp_path: Path) -> None:
    done = countgen("generate", "one cat", "--method", "plain", "--out=--", cwd=tmp_path, **options)
    assert done.returncode in code, done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in errors_in(done.stderr) if line.startswith("countgen")]
    assert len(errors) == (done.returncode == 2)


INTERRUPTED_IMPORT = """
import signal, sys
class CtrlC:
    def find_spec(self, name, *_):
        if name == sys.argv[1]: signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, CtrlC())
from countgen.app.cli import main
sys.exit(main(["generate", "one cat", "--quiet"]))
"""


@pytest.mark.parametrize("module", ["typer", "torch", "diffusers"])
def test_ctrl_c_while_libraries_are_imported_is_one_line(module: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", INTERRUPTED_IMPORT, module]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (130, "countgen: interrupted\n")


def test_generate_reaches_the_count_and_writes_both_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_generate_again_overwrites_nothing_and_gives_the_same_image(
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
    command = [sys.executable, "-m", "countgen", *arguments]
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
def test_interrupting_while_an_image_is_judged_or_written_still_writes_it(
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


def test_doctor_reports_a_cache_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file"))
    assert main(["doctor"]) == 1
    assert "FAIL model cache" in capsys.readouterr().out


def test_a_reader_that_goes_away_is_no_fault() -> None:
    command = [sys.executable, "-m", "countgen", "tokens"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
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
