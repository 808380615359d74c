"""An image can be generated again from what is inside it, and from nothing else."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import to_builtins

import countgen
from countgen import miniature
from countgen.app.cli import main
from countgen.errors import RecipeError
from countgen.images import read_png, read_recipe, save_png
from countgen.number_slider import NumberShift
from countgen.recipe import check
from countgen.tokens.file import save_token
from tests.app.conftest import EVIL, Answer, ErrorOf, Images, changed, errors_in
from tests.faults.listener import calls_heard

core = pytest.mark.core


def test_an_image_with_a_token_needs_that_token(
    models: countgen.Models, tmp_path: Path, answer: Answer, error_of: ErrorOf
) -> None:
    shipped = countgen.find_token("count-5", "miniature")
    own = replace(shipped, vectors={name: 0.9 * vectors for name, vectors in shipped.vectors.items()})
    file = save_token(own, tmp_path / "own.safetensors")
    result = countgen.generate("five apples", models, method="plain", token=own)
    path = save_png(result.image, tmp_path / "a.png", result.recipe)
    assert answer("reproduce", path, "--token", file)[0] == 0
    assert "SHA-256" in error_of("reproduce", path)


@core
def test_an_image_is_generated_again_and_a_changed_pixel_is_reported(
    images: Images, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, recipe = read_png(images["plain"])
    red, green, blue = image.getpixel((5, 5))
    image.putpixel((5, 5), (red, green + 3 if green < 128 else green - 3, blue))
    path = str(save_png(image, tmp_path / "a.png", recipe))
    for kind in images.values():
        assert main(["reproduce", str(kind)]) == 0
    assert capsys.readouterr().out == 3 * "largest pixel difference: 0 of 255 (0 of 16384 pixels differ)\n"
    assert main(["reproduce", path]) == 1
    assert capsys.readouterr().out == "largest pixel difference: 3 of 255 (1 of 16384 pixels differ)\n"
    assert main(["reproduce", path, "--tolerance", "3"]) == 0


def test_the_new_image_is_written_beside_what_is_there(images: Images, tmp_path: Path) -> None:
    out = tmp_path / "new" / "again.png"
    for _ in range(2):
        assert main(["reproduce", str(images["refined"]), "--out", str(out)]) == 0
    assert sorted(path.name for path in out.parent.iterdir()) == ["again-2.png", "again.png"]
    assert main(["reproduce", str(images["refined"]), "--out", str(out.with_suffix(".jpg"))]) == 2
    assert read_recipe(out) == read_recipe(images["refined"])


def test_other_versions_are_named_where_pixels_differ(
    images: Images, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for there, shown in (("1.0", "torch 1.0, here is"), (EVIL, r"torch \x1b]0;owned")):
        path = changed(images["plain"], tmp_path, candidate_seed=99, versions={"torch": there})
        assert main(["reproduce", str(path)]) == 1
        printed = capsys.readouterr().out
        assert f"generated with {shown}" in printed
        assert all(line.isprintable() and len(line) < 200 for line in printed.splitlines())


IMPOSSIBLE: list[tuple[dict[str, object], str]] = [
    ({"adapter": {"sha256": "0"}}, "adapter"),
    ({"backbone": "minature"}, "Did you mean miniature"),
    ({"backbone": "owner/evil", "family": "stable_diffusion_xl", "repository": "owner/evil"}, "owner/evil"),
    ({"num_inference_steps": 101}, "on request only"),
    ({"schema": 1}, "reads 2"),
    ({"repository": "owner/another"}, "may not name by itself"),
    ({"dtype": "int8"}, "dtype"),
    ({"candidate_seed": -1}, "candidate_seed"),
    ({"latents": {"shape": [4, 2, 2], "float32": "AAAA"}}, "latents"),
    ({"height": 4096, "width": 4096}, "128 x 128 and its recipe gives 4096 x 4096"),
    ({"prompt": "two cats " * 60}, "at most 500"),
    ({"token": {"placeholder_token": "/etc/passwd", "sha256": "0" * 64}}, "expected one like <count-7>"),
    ({"token": {"placeholder_token": "<count-99>", "sha256": "0" * 64}}, "no token '<count-99>'"),
    ({"changed_parts": ["\x1b[2J" * 1000]}, r"another \x1b[2J"),
    ({"scheduler": "DiffusionPipeline"}, "unknown scheduler 'DiffusionPipeline'"),
    ({"loras": [{"name": "owner/evil", "weight": 1}]}, "--lora"),
    ({"number_shifts": [to_builtins(NumberShift("cat", 11, 15, 5, 1e30, 2, 5))]}, "number_shifts[0]"),
]
"""Fields of a recipe and a helpful word of the message; `tests/faults` damages all fields."""


@core
def test_what_a_recipe_must_not_ask_for_is_found_before_a_model_is_read(
    images: Images, tmp_path: Path, no_model: None, error_of: ErrorOf, subtests: pytest.Subtests
) -> None:
    for fields, word in IMPOSSIBLE:
        path = changed(images["plain"], tmp_path, **fields)
        for command in (["reproduce", path], ["edit", path, "cat=4"])[: 1 if "token" in fields else 2]:
            with subtests.test(fields=str(fields)[:60], command=command[0]):
                error = error_of(*command)
                assert word in error
                assert len(error) < 700


@core
@pytest.mark.parametrize("revision", ["refs/pr/1", "main", "../../etc", "b261bac6", "B" * 40, "\ud800"])
def test_a_recipe_names_a_commit_or_nothing(revision: object, images: Images) -> None:
    recipe = read_recipe(images["plain"]) | {"backbone": "sd-turbo", "repository": "stabilityai/sd-turbo"}
    with pytest.raises(RecipeError, match=r"40 hexadecimal digits of a commit.*--model NAME@REVISION"):
        check(recipe | {"revision": revision})
    for model in ("sd-turbo@refs/pr/1", "stabilityai/sd-turbo@refs/pr/1"):
        asked = check(recipe | {"revision": revision}, model=model)
        assert (asked.preset.revision, asked.repository) == ("refs/pr/1", None)
    pinned = check(recipe | {"revision": None}).preset.revision
    assert pinned == "b261bac6fd2cf515557d5d0707481eafa0485ec2"
    for commit in (pinned, "a" * 40):
        assert check(recipe | {"revision": commit}).sources == (f"stabilityai/sd-turbo at commit {commit}",)
    many = recipe | {"revision": None, "num_inference_steps": 101}
    assert check(many, many_steps=True).preset.num_inference_steps == 101


EACH = """
import json, sys
from countgen.app.cli import main

commands = json.loads(sys.argv[1])
print(*map(main, commands), flush=True)
sys.stdin.readline()
for words in commands:
    main([*words, "--yes"])
"""


def test_nothing_is_downloaded_for_a_recipe_without_a_yes(images: Images, tmp_path: Path) -> None:
    fine_tune = {"backbone": "owner/fine-tune", "family": "stable_diffusion_xl"}
    commands = []
    for repository, fields, options in (
        ("stabilityai/sd-turbo", {"backbone": "sd-turbo"}, []),
        ("owner/fine-tune", fine_tune, ["--model", "owner/fine-tune"]),
    ):
        recipe = {**fields, "repository": repository, "revision": "a" * 40}
        path = changed(images["plain"], tmp_path, **recipe).rename(tmp_path / f"{fields['backbone'][:5]}.png")
        commands.append(["reproduce", str(path), *options])
    with calls_heard() as (url, calls):
        # The hub's client reads these when it is imported.
        hub = {"HF_ENDPOINT": url, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        command = [sys.executable, "-c", EACH, json.dumps(commands)]
        with subprocess.Popen(command, env=os.environ | hub, **pipes) as run:
            assert (run.stdout.readline(), calls) == ("2 2\n", [])
            agreed, errors = run.communicate("\n")
    assert calls[0].startswith(b"HEAD ")
    for repository, error in zip(("stabilityai/sd-turbo", "owner/fine-tune"), errors_in(errors), strict=False):
        assert f"{repository} at commit {'a' * 40}" in error
        assert "--yes" in error
        assert f"downloading what the cache does not hold of {repository}" in agreed


def test_an_image_of_another_model_is_reproduced_and_edited_as_it_was_made(
    images: Images, tmp_path: Path, answer: Answer, error_of: ErrorOf
) -> None:
    fine_tune = shutil.copytree(miniature.FOLDER / "mini-sdxl-turbo", tmp_path / "fine-tune")
    model = ["--model", fine_tune]
    detectors = ["--critic", "miniature-heatmap", "--judge", "miniature-fcos"]
    options = ["--num-inference-steps", "2", "--guidance-scale", "3", "--size", "96x64", "--negative-prompt", "blurry"]
    options += ["--scheduler", "EulerDiscreteScheduler", "--method", "plain", "--out", tmp_path]
    (made,) = answer("generate", "two cats", *options, *model, *detectors)[1]["images"]
    edit = ["edit", made["after"], "cat=3", "--max-evaluations", "2", *detectors]
    assert "--model" in error_of(*edit)
    edited = answer(*edit, *model)[1]
    for file, prompt in ((made["after"], "two cats"), (edited["after"], "three cats")):
        recipe = read_recipe(file)
        assert (recipe["prompt"], recipe["negative_prompt"], recipe["num_inference_steps"]) == (prompt, "blurry", 2)
        assert (recipe["repository"], recipe["family"]) == ("fine-tune", "stable_diffusion_xl")
        assert (recipe["scheduler"], recipe["width"], recipe["height"]) == ("EulerDiscreteScheduler", 96, 64)
        assert answer("reproduce", file, *model)[0] == 0
    other = changed(images["plain"], tmp_path, repository="fine-tune")
    assert answer("reproduce", other, *model)[0] == 0
    weights = fine_tune / "text_encoder" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    assert "or it is damaged" in error_of("reproduce", other, *model)
