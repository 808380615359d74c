"""`countgen tokens learn`, `countgen tokens` and `countgen generate --token` with few steps."""

from pathlib import Path

import pytest

from countgen.app.cli import main
from countgen.app.exit_codes import INTERRUPTED, NOT_REACHED, OK
from countgen.tokens.file import load_token
from countgen.tokens.library import available_tokens
from tests.app.conftest import Answer, ErrorOf

FEW_STEPS = ["--num-optimization-steps", "1", "--objects-per-step", "1", "--seeds-per-object", "1"]
FEW_STEPS += ["--distillation-steps", "0", "--validation-images", "1", "--trial-images", "2"]


def learn(count: int, out: Path, *more: str) -> list[str]:
    return ["tokens", "learn", str(count), "--object", "apple", "--out", str(out), *more]


def test_a_token_is_learned_saved_and_used(tmp_path: Path, answer: Answer, error_of: ErrorOf) -> None:
    out = tmp_path / "three.safetensors"
    code, record = answer(*learn(3, out, *FEW_STEPS))
    assert code == OK
    assert (record["placeholder_token"], record["steps"], record["interrupted"]) == ("<count-3>", 1, False)
    assert load_token(out).object_names == ("apple",)
    assert load_token(out).accuracy == record["accuracy"]
    assert {record["accuracy"], record["plain_accuracy"]} <= {0.0, 0.5, 1.0}
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    use = ["--method", "plain", "--token", out, "--out", tmp_path / "images"]
    assert answer("generate", "three cups", *use)[0] in (OK, NOT_REACHED)
    no_trial = ["--overwrite", "--trial-images", "0", "--size", "64", "--num-inference-steps", "2"]
    record = answer(*learn(3, out, *FEW_STEPS, *no_trial))[1]
    assert (record["accuracy"], record["plain_accuracy"], load_token(out).accuracy) == (None, None, None)
    assert "exists already" in error_of(*learn(3, out, *FEW_STEPS))


def test_a_finished_token_is_not_replaced_though_a_checkpoint_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error_of: ErrorOf
) -> None:
    out = tmp_path / "one.safetensors"
    command = learn(1, out, *FEW_STEPS)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("countgen.tokens.trainer.Learning._backward", interrupted)
        assert main(command) == INTERRUPTED
    checkpoint = out.with_suffix(".checkpoint.safetensors")
    left = checkpoint.read_bytes()
    assert "another training run" in error_of(*command, "--num-inference-steps", "2")
    assert main(command) == OK  # resumes although the file exists
    checkpoint.write_bytes(left)
    finished = out.read_bytes()
    assert "exists already" in error_of(*command)
    assert out.read_bytes() == finished


@pytest.mark.core
def test_tokens_lists_the_shipped_tokens_with_their_accuracy(
    answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = answer("tokens")[1]["tokens"]
    assert main(["tokens"]) == OK
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    tokens = available_tokens("miniature")
    assert (len(listed), lines.keys()) == (len(tokens), tokens.keys())
    for name, token in tokens.items():
        assert f"{100 * token.accuracy:.0f} % correct, baseline " in lines[name]
    assert "the token equals the number word" in lines["count-6"]
    assert main(["tokens", "--model", "sdxl-turbo"]) == OK
    assert "no token is shipped for sdxl-turbo" in capsys.readouterr().out
