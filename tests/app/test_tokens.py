"""`countgen tokens learn`, `countgen tokens` and `countgen generate --token` with few steps."""

import json

import pytest
import torch

import countgen
from countgen.app.cli import main
from countgen.app.exit_codes import BAD_INPUT, INTERRUPTED, NOT_REACHED, OK
from countgen.number_slider.calibration import FOLDER as CALIBRATIONS
from countgen.prompts.number_words import number_word
from countgen.tokens.file import load_token
from countgen.tokens.library import FOLDER, available_tokens
from countgen.tokens.textual_inversion import word_vectors

FEW_STEPS = ["--num-optimization-steps", "1", "--objects-per-step", "1", "--seeds-per-object", "1"]
FEW_STEPS += ["--distillation-steps", "0", "--validation-images", "1", "--trial-images", "2"]


def test_a_token_is_learned_saved_and_used(tmp_path, capsys):
    out = tmp_path / "three.safetensors"
    assert main(["tokens", "learn", "3", "--object", "apple", "--out", str(out), "--json", *FEW_STEPS]) == OK
    record = json.loads(capsys.readouterr().out)
    assert (record["placeholder_token"], record["steps"], record["interrupted"]) == ("<count-3>", 1, False)
    assert load_token(out).object_names == ("apple",)
    assert load_token(out).accuracy == record["accuracy"]
    assert {record["accuracy"], record["plain_accuracy"]} <= {0.0, 0.5, 1.0}
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    code = main(
        ["generate", "three cups", "--method", "plain", "--token", str(out), "--out", str(tmp_path / "p"), "--json"]
    )
    assert code in (OK, NOT_REACHED)
    assert json.loads(capsys.readouterr().out)["images"][0]["method"] == "plain"


def test_without_a_trial_the_token_has_no_accuracy(tmp_path, capsys):
    out = tmp_path / "three.safetensors"
    command = ["tokens", "learn", "3", "--object", "apple", "--out", str(out), *FEW_STEPS, "--trial-images", "0"]
    command += ["--size", "64", "--num-inference-steps", "2"]
    assert main([*command, "--json"]) == OK
    record = json.loads(capsys.readouterr().out)
    assert (record["accuracy"], record["plain_accuracy"]) == (None, None)
    assert load_token(out).accuracy is None
    assert main(command) == BAD_INPUT
    assert "exists already" in capsys.readouterr().err


def test_a_density_critic_trains_a_token_by_its_gradient(tmp_path, capsys):
    out, critic = tmp_path / "three.safetensors", "miniature-yolo by miniature-density"
    arguments = [
        "tokens",
        "learn",
        "3",
        "--object",
        "apple",
        "--critic",
        critic,
        "--out",
        str(out),
        "--json",
        *FEW_STEPS,
    ]
    assert main(arguments) == BAD_INPUT
    assert "--semantic-weight 0" in capsys.readouterr().err
    assert main([*arguments, "--semantic-weight", "0"]) == OK
    assert json.loads(capsys.readouterr().out)["steps"] == 1
    assert load_token(out).critic == critic


def test_a_count_beyond_the_number_words_gets_a_direction(tmp_path, capsys):
    out = tmp_path / "fourteen.safetensors"
    command = [
        "tokens",
        "learn",
        "14",
        "--object",
        "apple",
        "--object",
        "dog",
        "--out",
        str(out),
        "--trial-images",
        "4",
    ]
    assert main([*command, "--json"]) == OK
    record = json.loads(capsys.readouterr().out)
    token = load_token(out)
    assert (record["start_number"], record["offset"]) == (12, token.direction.offset)
    assert token.accuracy == record["accuracy"]
    assert token.object_names == ("apple", "dog")
    made = out.read_bytes()
    assert main(command) == BAD_INPUT
    assert "exists already" in capsys.readouterr().err
    assert out.read_bytes() == made
    assert main([*command, "--overwrite", "--trial-images", "0"]) == OK
    assert "<count-14>: twelve moved by 6 along the number axis" in capsys.readouterr().out


def test_the_calibration_of_another_model_is_refused(tmp_path, capsys):
    other = CALIBRATIONS / "miniature-pixart.json"
    out = tmp_path / "fourteen.safetensors"
    command = ["tokens", "learn", "14", "--object", "apple", "--calibration", str(other), "--out", str(out)]
    assert main(command) == BAD_INPUT
    assert "the calibration is of miniature-pixart, the model here is miniature" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["25", "--object", "apple"], "reaches counts from 13 to 16"),
        (["14", "--object", "aeroplane"], "no class"),
        (["14", "--object", "apple", "--patience", "2"], "leave out --patience"),
        (["3", "--object", "apple", "--out", "token.pt"], ".safetensors"),
        (["3", "--object", "apple", "--num-vectors", "33"], "at most 32"),
    ],
)
def test_bad_input_is_refused_with_a_message(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["tokens", "learn", *arguments]) == BAD_INPUT
    assert message in capsys.readouterr().err


def test_an_existing_file_is_not_replaced(tmp_path, capsys):
    out = tmp_path / "a.safetensors"
    out.write_text("mine")
    assert main(["tokens", "learn", "3", "--object", "apple", "--out", str(out)]) == BAD_INPUT
    assert "exists already" in capsys.readouterr().err
    assert out.read_text() == "mine"


def test_a_finished_token_is_not_replaced_though_a_checkpoint_exists(tmp_path, capsys, monkeypatch):
    out = tmp_path / "one.safetensors"
    command = ["tokens", "learn", "1", "--object", "apple", "--out", str(out), "--json", *FEW_STEPS]

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("countgen.tokens.trainer.Learning._backward", interrupted)
        assert main(command) == INTERRUPTED
    checkpoint = out.with_suffix(".checkpoint.safetensors")
    left = checkpoint.read_bytes()
    assert main([*command, "--num-inference-steps", "2"]) == BAD_INPUT
    assert "another training run" in capsys.readouterr().err
    assert main(command) == OK  # resumes although the file exists
    checkpoint.write_bytes(left)
    finished = out.read_bytes()
    assert main(command) == BAD_INPUT
    assert "exists already" in capsys.readouterr().err
    assert out.read_bytes() == finished


def test_tokens_lists_the_shipped_tokens_with_their_accuracy(capsys):
    assert main(["tokens", "--json"]) == OK
    listed = json.loads(capsys.readouterr().out)["tokens"]
    assert len(listed) == len(list((FOLDER / "miniature").glob("*.safetensors")))
    assert main(["tokens"]) == OK
    text = capsys.readouterr().out
    for token in listed:
        if token["direction"] is None:
            assert f"{100 * token['accuracy']:.0f} % correct, baseline " in text
        else:
            assert f"twelve moved by {token['direction']['offset']:g} along the number axis" in text
    alike = {line.split()[0] for line in text.splitlines() if "the token equals the number word" in line}
    backbone = countgen.load("miniature", device="cpu").backbone
    for name, token in available_tokens("miniature").items():
        if token.direction is not None:
            continue
        words = word_vectors(backbone, number_word(token.target_count))
        assert (name in alike) == all(torch.equal(token.vectors[key], words[key]) for key in words)
    assert alike == {"count-6", "count-7", "count-8"}


def test_tokens_reports_a_backbone_without_tokens(capsys):
    assert main(["tokens", "--model", "sdxl-turbo"]) == OK
    assert "no token is shipped for sdxl-turbo" in capsys.readouterr().out
