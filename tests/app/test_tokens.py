"""`countgen learn-token`, `countgen tokens` and `countgen generate --token`, at toy length."""

import json

import pytest

from app.cli import main
from app.exit_codes import BAD_INPUT, NOT_REACHED, OK
from countgen.token_file import load_token
from countgen.token_library import FOLDER

TOY = ["--num-optimization-steps", "1", "--objects-per-step", "1", "--seeds-per-object", "1"]


@pytest.fixture(autouse=True)
def few_validation_pictures(monkeypatch):
    from countgen import token

    monkeypatch.setattr(token.LearnSettings, "__init__", _with_few(token.LearnSettings.__init__))


def _with_few(init):
    def changed(self, **given):
        init(self, **{"validation_pictures": 1, "initial_step": 0, "teacher": None, **given})

    return changed


def test_a_token_is_learned_saved_and_used(tmp_path, capsys):
    out = tmp_path / "three.safetensors"
    assert main(["learn-token", "3", "--object", "apple", "--out", str(out), "--json", *TOY]) == OK
    record = json.loads(capsys.readouterr().out)
    assert (record["placeholder_token"], record["steps"], record["interrupted"]) == ("<count-3>", 1, False)
    assert load_token(out).object_names == ("apple",)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    code = main(
        ["generate", "three cups", "--method", "token", "--token", str(out), "--out", str(tmp_path / "p"), "--json"]
    )
    assert code in (OK, NOT_REACHED)
    assert json.loads(capsys.readouterr().out)["images"][0]["method"] == "token"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "three cups", "--method", "token"], "needs a --token"),
        (["generate", "three cups", "--token", "count-999"], "no such file"),
        (["learn-token", "3", "--object", "apple", "--out", "token.pt"], ".safetensors"),
        (["learn-token", "3", "--object", "apple", "--num-vectors", "0"], "num_vectors"),
        (["learn-token", "3", "--object", "aeroplane"], "no class"),
        (["tokens", "--backbone", "magic"], "unknown backbone"),
    ],
)
def test_bad_input_says_what_is_wrong(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == BAD_INPUT
    assert message in capsys.readouterr().err


def test_a_taken_name_is_kept(tmp_path, capsys):
    out = tmp_path / "a.safetensors"
    out.write_text("mine")
    assert main(["learn-token", "3", "--object", "apple", "--out", str(out)]) == BAD_INPUT
    assert "there already" in capsys.readouterr().err
    assert out.read_text() == "mine"


def test_tokens_lists_what_is_shipped_with_its_accuracy(capsys):
    assert main(["tokens", "--json"]) == OK
    listed = json.loads(capsys.readouterr().out)["tokens"]
    assert len(listed) == len(list((FOLDER / "miniature").glob("*.safetensors")))
    assert main(["tokens"]) == OK
    text = capsys.readouterr().out
    for token in listed:
        assert f"{100 * token['accuracy']:.0f} % right" in text


def test_tokens_of_a_backbone_without_any_says_so(capsys):
    assert main(["tokens", "--backbone", "sdxl-turbo"]) == OK
    assert "no token is shipped for sdxl-turbo" in capsys.readouterr().out
