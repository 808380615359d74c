"""`countgen learn-adapter`, `countgen adapters` and `countgen generate --adapter` with few steps."""

import json

import pytest

from countgen.adapters import library
from countgen.adapters.file import load_adapter
from countgen.app.cli import main
from countgen.app.exit_codes import BAD_INPUT, INTERRUPTED, NOT_REACHED, OK
from countgen.errors import NonFiniteLossError

FEW_STEPS = ["--num-optimization-steps", "1", "--objects-per-step", "1", "--seeds-per-object", "1", "--channels", "8"]
FEW_STEPS += ["--validation-images", "1", "--trial-images", "2", "--counts", "3-4"]
NOISE = library.FOLDER / "miniature" / "noise.safetensors"


def test_an_adapter_is_learned_saved_listed_and_used(tmp_path, capsys, monkeypatch):
    out = tmp_path / "adapters" / "miniature" / "small.safetensors"
    out.parent.mkdir(parents=True)
    command = ["learn-adapter", "--object", "apple, dog", "--out", str(out), "--json", *FEW_STEPS]
    assert main(command) == OK
    record = json.loads(capsys.readouterr().out)
    assert (record["steps"], record["interrupted"]) == (1, False)
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    adapter = load_adapter(out)
    assert (adapter.object_names, adapter.config.counts) == (("apple", "dog"), (3, 4))
    assert (adapter.accuracy, adapter.plain_accuracy) == (record["accuracy"], record["plain_accuracy"])

    assert main(command) == BAD_INPUT
    assert "exists already" in capsys.readouterr().err

    monkeypatch.setattr(library, "FOLDER", tmp_path / "adapters")
    assert main(["adapters"]) == OK
    listed = capsys.readouterr().out
    assert listed.startswith(f"small: {100 * adapter.accuracy:.0f} % correct, baseline ")
    assert "counts 3 to 4, learned on 2 object classes" in " ".join(listed.split())
    assert main(["adapters", "--json"]) == OK
    (facts,) = json.loads(capsys.readouterr().out)["adapters"]
    assert (facts["name"], facts["sha256"]) == ("small", adapter.sha256)

    arguments = ["generate", "three cups", "--method", "plain", "--out", str(tmp_path / "p"), "--json"]
    assert main([*arguments, "--adapter", "small"]) in (OK, NOT_REACHED)
    image = json.loads(capsys.readouterr().out)["images"][0]["after"]
    assert main(["reproduce", image]) == OK
    assert main([*arguments, "--adapter", "small", "--adapter", str(out)]) == BAD_INPUT
    assert "one noise adapter is used at a time, got 2" in capsys.readouterr().err


def test_ctrl_c_saves_the_best_adapter_and_the_same_command_resumes(tmp_path, capsys, monkeypatch):
    out, checkpoint = tmp_path / "a.safetensors", tmp_path / "elsewhere.safetensors"
    command = ["learn-adapter", "--object", "apple", "--out", str(out), "--checkpoint", str(checkpoint), *FEW_STEPS]

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("countgen.adapters.training.AdapterTraining._backward", interrupted)
        assert main([*command, "--json"]) == INTERRUPTED
    record = json.loads(capsys.readouterr().out)
    assert (record["steps"], record["interrupted"], record["accuracy"]) == (0, True, None)
    assert load_adapter(out).accuracy is None
    assert checkpoint.exists()
    assert main(command) == OK  # resumes although the file exists
    assert "adapter after 1 steps" in capsys.readouterr().out
    assert not checkpoint.exists()
    assert load_adapter(out).accuracy is not None


def test_an_error_and_ctrl_c_in_the_trial_keep_what_was_learned(tmp_path, capsys, monkeypatch):
    out = tmp_path / "a.safetensors"
    command = ["learn-adapter", "--object", "apple", "--out", str(out), "--quiet", *FEW_STEPS]

    def failing(*_, **__):
        raise NonFiniteLossError("the loss is not finite at step 0; lower learning_rate or use float32")

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("countgen.adapters.training.AdapterTraining._backward", failing)
        assert main(command) == BAD_INPUT
    assert load_adapter(out).accuracy is None
    out.unlink()
    with monkeypatch.context() as patched:
        patched.setattr("countgen.adapters.training.try_adapter", interrupted)
        assert main(command) == INTERRUPTED
    assert "interrupted" in capsys.readouterr().err
    assert load_adapter(out).accuracy is None
    assert main(command) == OK  # resumes although the file exists
    assert load_adapter(out).accuracy is not None


def test_models_without_adapters_are_listed_as_such(capsys):
    assert main(["adapters", "--model", "sdxl-turbo"]) == OK
    assert "no noise adapter is shipped for sdxl-turbo" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "three cups", "--adapter", "nothing"], "no such file"),
        (["generate", "three cups", "--adapter", "."], "is a folder"),
        (["generate", "three cups", "--adapter", "noise"], "trained on counts from 4 to 12, got 3"),
        (["generate", "nine cups", "--adapter", "noise", "--method", "edit"], "leave the adapter out"),
        (["generate", "nine cups", "--adapter", str(NOISE), "--model", "miniature-pixart"], "with 'miniature-pixart'"),
        (["generate", "nine cups", "--token", str(NOISE)], "holds a noise adapter, expected a count token"),
        (["learn-adapter", "--object", "apple", "--out", "a.pt"], "--out must end with .safetensors"),
        (["learn-adapter", "--object", "apple", "--checkpoint", "a.pt"], "--checkpoint must end with .safetensors"),
        (["learn-adapter", "--object", "apple", "--checkpoint", "adapter.safetensors"], "give two files"),
        (["learn-adapter", "--object", "aeroplane"], "no class"),
        (["learn-adapter", "--object", "apple", "--counts", "3-120"], "counts must be"),
        (["learn-adapter", "--object", "apple", "--channels", "9"], "multiple of 8"),
        (["adapters", "--model", "magic"], "unknown backbone"),
    ],
)
def test_bad_input_is_refused_with_a_message(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == BAD_INPUT
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("**/*.*"))


@pytest.mark.parametrize("arguments", [["--object", ","], ["--object", "apple", "--counts", "5-3"]])
def test_options_that_cannot_be_read_are_refused(capsys, arguments):
    with pytest.raises(SystemExit, match=r"^2$"):
        main(["learn-adapter", *arguments])
    assert "write " in capsys.readouterr().err
