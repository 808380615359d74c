"""A picture can be drawn again from what is inside it, and from nothing else."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import diffusers
import pytest
import torch

import countgen
from countgen import miniature
from countgen.app.cli import main
from countgen.errors import RecipeError, TokenFileError
from countgen.images import read_png, read_recipe, save_png
from countgen.recipe import check, load_backbone, plain
from countgen.tokens.file import CountToken, load_token, save_token
from countgen.tokens.textual_inversion import word_vectors
from tests.app.standard_error import errors_in
from tests.faults.listener import Listener

Written = dict[str, Path]


@pytest.fixture(scope="module")
def written(models: countgen.Models, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A picture of a seed found in a batch, one that gradients moved, and the plain one."""
    folder = tmp_path_factory.mktemp("written")
    searched = countgen.generate("a photo of five cats", models, method="search", seed=0)
    refined = countgen.generate("a photo of fourteen cats", models, method="noise", seed=1, max_evaluations=12)
    return {
        "searched": save_png(searched.image, folder / "searched.png", searched.recipe),
        "refined": save_png(refined.image, folder / "refined.png", refined.recipe),
        "plain": save_png(searched.before, folder / "plain.png", plain(searched.recipe)),
    }


def changed(path: Path, tmp_path: Path, **fields: object) -> Path:
    """The same pixels with another recipe; None takes a field away."""
    picture, recipe = read_png(path)
    recipe = {key: value for key, value in (recipe | fields).items() if value is not None}
    return save_png(picture, tmp_path / "changed.png", recipe)


@pytest.mark.parametrize("kind", ["searched", "refined", "plain"])
def test_a_picture_is_drawn_again_without_a_difference(
    kind: str, written: Written, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reproduce", str(written[kind]), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["largest_difference"] == 0
    assert record["pixels"] == 128 * 128
    assert record["same"]
    assert record["versions"] == {}


def test_a_picture_with_a_token_needs_that_token(
    models: countgen.Models, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = {name: new_token(models, seed) for seed, name in enumerate(("right", "wrong"))}
    for name, token in tokens.items():
        save_token(token, tmp_path / f"{name}.safetensors")
    result = countgen.generate("seven apples", models, method="plain", token=tokens["right"])
    path = str(save_png(result.image, tmp_path / "a.png", result.recipe))
    assert main(["reproduce", path, "--token", str(tmp_path / "right.safetensors")]) == 0
    assert capsys.readouterr().out.startswith("largest pixel difference: 0 of 255")
    assert main(["reproduce", path, "--token", str(tmp_path / "wrong.safetensors")]) == 2
    assert "SHA-256" in capsys.readouterr().err


def new_token(models: countgen.Models, seed: int) -> CountToken:
    generator = torch.Generator().manual_seed(seed)
    words = word_vectors(models.backbone, "seven")
    vectors = {key: 0.1 * torch.randn(vector.shape, generator=generator) for key, vector in words.items()}
    return CountToken("<count-7>", 7, vectors, "miniature", None, ("apple",), "none", "", None, "Apache-2.0")


def test_a_changed_pixel_is_found_and_tolerated_on_request(
    written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, recipe = read_png(written["plain"])
    red, green, blue = picture.getpixel((5, 5))
    picture.putpixel((5, 5), (red, green + 3 if green < 128 else green - 3, blue))
    path = str(save_png(picture, tmp_path / "a.png", recipe))
    assert main(["reproduce", path]) == 1
    assert capsys.readouterr().out == "largest pixel difference: 3 of 255 (1 of 16384 pixels differ)\n"
    assert main(["reproduce", path, "--tolerance", "3"]) == 0


def test_the_new_drawing_is_written_beside_what_is_there(written: Written, tmp_path: Path) -> None:
    out = tmp_path / "new" / "again.png"
    for _ in range(2):
        assert main(["reproduce", str(written["refined"]), "--out", str(out)]) == 0
    assert sorted(path.name for path in out.parent.iterdir()) == ["again-2.png", "again.png"]
    assert main(["reproduce", str(written["refined"]), "--out", str(out.with_suffix(".jpg"))]) == 2
    assert read_recipe(out) == read_recipe(written["refined"])


def test_other_versions_are_named_where_pixels_differ(
    written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = changed(written["plain"], tmp_path, candidate_seed=99, versions={"torch": "1.0"})
    assert main(["reproduce", str(path)]) == 1
    assert "generated with torch 1.0, here is" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"schema": 1}, "has the schema 1, this version reads 2"),
        ({"adapter": {"sha256": "0"}}, "unknown field `adapter`"),
        ({"backbone": "minature"}, "Did you mean miniature"),
        ({"backbone": "../../etc"}, "unknown backbone"),
        ({"backbone": None}, "required field `backbone`"),
        ({"backbone": "x" * 5000}, "known: flux-schnell, flux2-klein, hyper-sdxl, miniature"),
        ({"repository": "owner/another"}, "generated with 'owner/another'"),
        ({"dtype": "int8"}, "dtype: Invalid enum value 'int8'"),
        ({"num_inference_steps": 10**9}, "num_inference_steps: Expected `int` <= 1000"),
        ({"height": 101}, "128 x 128 and its recipe gives 128 x 101: it was resized or cropped"),
        ({"memory": "none"}, "memory: Invalid enum value 'none'"),
        ({"prompt": None}, "required field `prompt`"),
        ({"prompt": "two cats " * 60}, "at most 500 are read"),
        ({"candidate_seed": -1}, "candidate_seed: Expected `int` >= 0"),
        ({"latents": {"shape": [1], "float32": "AAAA"}}, "latents"),
        ({"latents": {"shape": [4, 16, 16], "float32": "no base64!"}}, "latents"),
        ({"token": {"placeholder_token": "/etc/passwd", "sha256": "0"}}, "expected one like <count-7>"),
        ({"token": "<count-9999>"}, "no token '<count-9999>'"),
        ({"height": 4096, "width": 4096}, "128 x 128 and its recipe gives 4096 x 4096"),
        ({"num_inference_steps": 1000}, "more than 100 are accepted on request only"),
        ({"guidance_scale": 10**400}, "guidance_scale: Number out of range"),
        ({"changed_parts": ["\x1b[2J" * 1000]}, r"another \x1b[2J"),
        ({"scheduler": "DiffusionPipeline"}, "diffusers has no scheduler 'DiffusionPipeline'"),
        ({"loras": [{"name": "owner/evil", "weight": 1}]}, "on the command line --lora"),
        ({"negative_prompt": "x" * 501}, "at most 500 are read"),
    ],
)
def test_a_recipe_that_cannot_be_drawn_is_one_line_and_exit_code_2(
    fields: dict[str, object],
    reason: str,
    written: Written,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["reproduce", str(changed(written["plain"], tmp_path, **fields))]) == 2
    errors = capsys.readouterr().err
    assert reason in errors
    assert len(errors.splitlines()) == 1
    assert len(errors) < 700


def test_what_a_recipe_may_not_ask_for_is_refused_before_a_model_is_read(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    def never(*_: object, **__: object) -> None:
        raise SystemExit("a model was read")  # which nothing on the way catches

    for owner in (diffusers.DiffusionPipeline, diffusers.ModelMixin):
        monkeypatch.setattr(owner, "from_pretrained", classmethod(never))
    with pytest.raises(SystemExit, match="a model was read"):
        main(["reproduce", str(written["plain"])])
    asked: tuple[dict[str, object], ...] = (
        {"height": 4096, "width": 4096},
        {"num_inference_steps": 1000},
        {"prompt": "x" * 501},
        {"guidance_scale": 10**400},
        {"token": {"placeholder_token": "<count-7>", "sha256": "0"}},
        {"latents": {"shape": [4, 16, 16], "float32": "no base64!"}},
        {"backbone": "owner/evil", "family": "stable_diffusion_xl", "repository": "owner/evil"},
        {"scheduler": "DiffusionPipeline"},
        {"loras": [{"name": "owner/evil", "weight": 1}]},
        {"negative_prompt": "x" * 501},
    )
    for fields in asked:
        with subtests.test(fields=fields):
            assert main(["reproduce", str(changed(written["plain"], tmp_path, **fields))]) == 2


@pytest.mark.parametrize("revision", ["refs/pr/1", "main", "../../etc", "b261bac6", "B" * 40, "\ud800"])
def test_a_recipe_names_a_commit_or_nothing(revision: object, written: Written) -> None:
    recipe = read_recipe(written["plain"]) | {"backbone": "sd-turbo", "repository": "stabilityai/sd-turbo"}
    with pytest.raises(RecipeError, match=r"expected the 40 hexadecimal digits of a commit.*--model NAME@REVISION"):
        check(recipe | {"revision": revision})
    for model in ("sd-turbo@refs/pr/1", "stabilityai/sd-turbo@refs/pr/1"):
        asked = check(recipe | {"revision": revision}, model=model)
        assert (asked.preset.revision, asked.repository) == ("refs/pr/1", None)
    pinned = check(recipe | {"revision": None}).preset.revision
    assert pinned == "b261bac6fd2cf515557d5d0707481eafa0485ec2"
    for commit in (pinned, "a" * 40):
        assert check(recipe | {"revision": commit}).sources == (f"stabilityai/sd-turbo at commit {commit}",)


REFUSED_THEN_AGREED = """
import json, socket, sys
from countgen.app.cli import main
asked = json.loads(sys.argv[1])
codes = [main(["reproduce", *words]) for words in asked]
assert codes == [2, 2], codes
def mark(text):
    with socket.create_connection(("127.0.0.1", int(sys.argv[2]))) as listener: listener.send(text.encode())
    print(text, file=sys.stderr)
mark("refused")
for words in asked:
    main(["reproduce", *words, "--yes"])
    mark("agreed")
"""


def test_nothing_is_downloaded_for_a_recipe_without_a_yes(written: Written, tmp_path: Path) -> None:
    fine_tune = {"backbone": "owner/fine-tune", "family": "stable_diffusion_xl"}
    asked = []
    for repository, fields, options in (
        ("stabilityai/sd-turbo", {"backbone": "sd-turbo"}, []),
        ("owner/fine-tune", fine_tune, ["--model", "owner/fine-tune"]),
    ):
        recipe = {**fields, "repository": repository, "revision": "a" * 40}
        path = changed(written["plain"], tmp_path, **recipe).rename(tmp_path / f"{fields['backbone'][:5]}.png")
        asked.append([str(path), *options])
    with Listener() as (url, calls):
        # The hub's client reads these when it is imported.
        hub = {"HF_ENDPOINT": url, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0"}
        command = [sys.executable, "-c", REFUSED_THEN_AGREED, json.dumps(asked), url.rpartition(":")[2]]
        done = subprocess.run(command, env=os.environ | hub, capture_output=True, text=True, check=False)
    refused, marker, _ = done.stderr.partition("refused\n")
    assert marker, done.stderr
    assert len(errors_in(refused)) == 2
    assert calls[0] == b"refused", "nothing is called before the user agrees"
    for repository, error in zip(("stabilityai/sd-turbo", "owner/fine-tune"), errors_in(refused), strict=True):
        assert f"{repository} at commit {'a' * 40}" in error
        assert "--yes" in error
        assert f"downloading what the cache does not hold of {repository}" in done.stdout
    for call in (calls[1], calls[calls.index(b"agreed") + 1]):
        assert call.startswith(b"HEAD "), calls


def test_many_steps_are_taken_on_request(written: Written, tmp_path: Path) -> None:
    path = changed(written["plain"], tmp_path, num_inference_steps=101)
    assert main(["reproduce", str(path)]) == 2
    assert check(read_recipe(path), many_steps=True).preset.num_inference_steps == 101


def test_a_pipe_is_no_picture_and_no_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = tmp_path / "a.safetensors"
    os.mkfifo(pipe)
    with pytest.raises(TokenFileError, match="is a pipe"):
        load_token(pipe)
    assert main(["reproduce", str(pipe)]) == 2
    assert "is a pipe; give a regular file" in capsys.readouterr().err
    assert main(["generate", "seven apples", "--token", str(pipe), "--out", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_guidance_beyond_all_numbers_is_one_line() -> None:
    with pytest.raises(ValueError, match=r"guidance_scale must be a number of at least 0 .* at most 1000, got 1000+$"):
        countgen.backbones.load("miniature", guidance_scale=10**400)


def test_a_picture_that_is_not_ours_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", str(save_png(torch.zeros(3, 8, 8), tmp_path / "a.png"))]) == 2
    assert "holds no recipe" in capsys.readouterr().err
    assert main(["reproduce", str(tmp_path / "none.png")]) == 2
    assert capsys.readouterr().err == f"countgen: error: {tmp_path / 'none.png'}: No such file or directory\n"


def test_a_recipe_says_what_it_was_drawn_with(written: Written) -> None:
    recipe = read_recipe(written["refined"])
    assert recipe["schema"] == 2
    assert recipe["versions"]["countgen"] == countgen.__version__
    assert recipe["versions"]["torch"] == torch.__version__
    assert recipe["repository"] == "mini-sdxl-turbo"
    assert (recipe["memory"], recipe["draft"], recipe["revision"]) == ("fast", False, None)


def test_another_repository_is_used_on_request_and_damage_in_it_is_one_line(
    written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fine_tune = shutil.copytree(miniature.FOLDER / "mini-sdxl-turbo", tmp_path / "fine-tune")
    path = str(changed(written["plain"], tmp_path, repository="fine-tune"))
    assert main(["reproduce", path]) == 2
    assert "generated with 'fine-tune'" in capsys.readouterr().err
    assert main(["reproduce", path, "--model", str(fine_tune)]) == 0
    capsys.readouterr()
    weights = fine_tune / "text_encoder" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    assert main(["reproduce", path, "--model", str(fine_tune)]) == 2
    errors = capsys.readouterr().err
    assert "or it is damaged" in errors
    assert len(errors.splitlines()) == 1


def test_a_picture_of_other_steps_and_size_is_drawn_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fine_tune = shutil.copytree(miniature.FOLDER / "mini-sdxl-turbo", tmp_path / "fine-tune")
    options = ["--model", str(fine_tune), "--num-inference-steps", "2", "--guidance-scale", "3", "--size", "96x64"]
    options += ["--negative-prompt", "blurry", "--scheduler", "EulerDiscreteScheduler"]
    options += ["--critic", "miniature-yolo", "--judge", "miniature-fcos"]
    main(["generate", "two cats", "--method", "plain", "--out", str(tmp_path), "--json", *options])
    (written,) = json.loads(capsys.readouterr().out)["images"]
    recipe = read_recipe(Path(written["after"]))
    assert (recipe["repository"], recipe["family"], recipe["num_inference_steps"]) == (
        "fine-tune",
        "stable_diffusion_xl",
        2,
    )
    assert (recipe["negative_prompt"], recipe["scheduler"]) == ("blurry", "EulerDiscreteScheduler")
    assert (recipe["width"], recipe["height"]) == (96, 64)
    assert main(["reproduce", written["after"], "--model", str(fine_tune)]) == 0


def test_a_recipe_names_the_parts_that_no_command_can_draw_it_with(models: countgen.Models) -> None:
    backbone = countgen.backbones.load("miniature", max_sequence_length=64)
    other = countgen.Models(backbone, models.critics, models.judge)
    recipe = countgen.generate("two cats", other, method="plain").recipe
    assert recipe["changed_parts"] == ["max_sequence_length"]
    with pytest.raises(RecipeError, match=r"another max_sequence_length than 'miniature' has"):
        load_backbone(recipe)
