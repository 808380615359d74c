import json
from pathlib import Path
from typing import Any

import pytest
import torch
from countgen.backbones.memory_estimate import estimate_memory

import countgen
from countgen.backbones import presets
from countgen.benchmarks.speed import __main__ as speed
from countgen.benchmarks.speed import memory as speed_memory
from countgen.benchmarks.speed.bare_loop import bare_loop
from countgen.benchmarks.speed.miniature import PROMPT, TARGETS, compare, operations, profile, refine_steps, threads
from countgen.benchmarks.speed.models import MODELS, TIMED, build
from countgen.benchmarks.speed.table import Bench

CPU: dict[Any, list[str]] = {speed: ["--device", "cpu"], speed_memory: ["--device", "cpu"]}


def timed(name: str, variants: list[str], out: Path) -> list[dict[str, Any]]:
    """The rows of a tiny model on the CPU."""
    arguments = ["--device", "cpu", "--size", "tiny", "--models", name, "--repeats", "1", "--out", str(out)]
    assert speed.main([*arguments, *(part for variant in variants for part in ("--only", variant))]) == 0
    rows: list[dict[str, Any]] = json.loads(out.read_text())["rows"]
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("name", TIMED)
def test_every_model_is_timed_beside_renos_loop_and_the_floor(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    low = [f'memory="low", smaller {views}' for views in ("three views", "one view")]
    variants = ["ReNO's loop", "eager, full decoder, one view", *low]
    rows = {row["what"]: row for row in timed(name, variants, tmp_path / "speed.json")}
    assert set(variants) == {what for what, row in rows.items() if row["milliseconds"]}
    assert rows[variants[1]]["to_reno"] > 0
    assert rows[variants[1]]["to_floor"] > 0
    assert "| x floor |" in capsys.readouterr().out


@pytest.mark.slow
def test_a_variant_that_fails_leaves_its_error_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "STEPS", 1)
    forward = "forward only, tiny decoder, one view, eager"
    rows = timed("pixart-dmd", ["graph, full", "graph, tiny", forward, "refine"], tmp_path / "speed.json")
    done = {row["what"] for row in rows if row["milliseconds"]}
    assert {f"refine, 1 steps, {decoder} decoder, three views" for decoder in ("full", "tiny")} <= done
    assert forward in done
    graphs = [row["note"] for row in rows if "graph" in row["what"]]
    assert len(graphs) == 8
    assert all(note.startswith("failed: RuntimeError: a CUDA graph needs its inputs on a GPU") for note in graphs)
    floors = {row["note"] for row in rows if row["what"].startswith("counted")}
    assert len(floors) == 4, "each decoder and each number of views has a floor of its own"


@pytest.mark.slow
def test_the_memory_table_predicts_without_a_gpu_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "memory.md"
    arguments = ["--device", "cpu", "--size", "tiny", "--models", "sd-turbo,sana-sprint", "--out", str(page)]
    assert speed_memory.main(arguments) == 0
    table = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in table[2:]] == ["| sd-turbo", "| sd-turbo", "| sana-sprint"]
    assert len({line.count("|") for line in table}) == 1
    text = page.read_text("utf-8")
    assert "predicted" in text
    assert table[2] in text


def test_every_published_preset_has_an_architecture_of_its_family_and_size() -> None:
    assert set(MODELS) == {name for name in presets() if not name.startswith("miniature")}
    for name in MODELS:
        backbone = build(name, "tiny", torch.device("cpu"), torch.float32).backbone
        family, preset = presets()[name]
        assert type(backbone).__module__ == f"countgen.backbones.{family}"
        assert (backbone.tiny_vae is None) == (preset.tiny_vae is None)


@pytest.mark.parametrize(
    "name", ["flux-schnell", "sd-3.5-turbo", "sana-sprint", "pixart-alpha", "z-image-turbo", "flux2-klein"]
)
def test_an_architecture_draws_and_its_bytes_are_counted_without_contents(name: str) -> None:
    model = build(name, "tiny", torch.device("cpu"), torch.float32)
    with torch.no_grad():
        embeds = model.encode()
        images = model.backbone.render(model.backbone.initial_latents([0]), embeds, [0])
    assert torch.isfinite(images).all()
    without = build(name, "tiny", torch.device("meta"), torch.float32)
    with torch.no_grad():
        assert estimate_memory(without.backbone, without.encode()) == estimate_memory(model.backbone, embeds)


def test_the_bare_loop_walks_the_librarys_way(models: countgen.Models) -> None:
    ours, bare = refine_steps(models), bare_loop(models, PROMPT, TARGETS[0])
    for _ in range(3):
        assert bare() == pytest.approx(next(ours).loss, rel=1e-4)


@pytest.mark.slow
def test_our_step_is_compared_with_the_bare_loops(capsys: pytest.CaptureFixture[str]) -> None:
    ratio = compare(Bench(torch.device("cpu"), "miniature", 1, None, 60), steps=3)
    assert ratio > 0
    printed = capsys.readouterr().out
    assert "| miniature | bare torch loop | 1 |" in printed
    assert f"{ratio:.3f} times bare torch loop" in printed


def test_our_step_runs_hardly_more_operations_than_the_bare_loops(models: countgen.Models) -> None:
    ours, bare = refine_steps(models), bare_loop(models, PROMPT, TARGETS[0])
    for call in (bare, lambda: next(ours)):
        call()
    added = operations(lambda: next(ours)) - operations(bare)
    assert abs(added) < 0.05 * operations(bare)


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (speed, ["--models", "foo"], "no model 'foo'; available: sdxl-turbo"),
        (speed, ["--repeats", "0"], "--repeats must be at least 1"),
        (speed, ["--size", "miniature", "--repeats", "1"], "--repeats must be at least 1, of the miniature 2"),
        (speed, ["--device", "cuda:99"], "no device 'cuda:99' here"),
        (speed_memory, ["--models", "nope"], "no model 'nope'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    command: Any, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        command.main(arguments if "--device" in arguments else [*arguments, *CPU[command]])
    assert left.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_several_threads_are_compared_with_one_and_the_number_is_put_back(capsys: pytest.CaptureFixture[str]) -> None:
    before = torch.get_num_threads()
    threads(Bench(torch.device("cpu"), "miniature", 1, None, 60), 2, steps=2)
    assert torch.get_num_threads() == before
    assert "times refine, 1 thread, quartiles" in capsys.readouterr().out


@pytest.mark.slow
def test_the_profile_names_parts_and_operations() -> None:
    table = profile(torch.device("cpu"), steps=1)
    assert {"| U-Net |", "| decoder |", "| backward |"} <= {
        f"{line.rpartition(' | ')[0].rpartition(' | ')[0]} |" for line in table.splitlines()
    }
    assert "convolution" in table


def test_a_model_without_tokens_renders_from_its_own_embeddings() -> None:
    model = build("sd-turbo", "tiny", torch.device("cpu"), torch.float32)
    images = model.backbone.render(model.backbone.initial_latents([0]), model.encode())
    assert images.shape == (1, 3, 64, 64)
    assert torch.isfinite(images).all()


def test_an_unknown_model_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="sd-turbo"):
        build("sdxxl", "tiny", torch.device("cpu"), torch.float32)
