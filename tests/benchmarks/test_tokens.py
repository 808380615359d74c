"""The token benchmark's tables say what its records say, and its parts run."""

import json
from dataclasses import asdict, replace

import pytest
import torch

from benchmarks import token_oracle, tokens
from benchmarks.tokens import Record
from countgen.prompts import Target
from countgen.token_library import FOLDER, available_tokens, find_token


def record(seed: int, count: int = 7, group: str = "learned", **counted: int) -> Record:
    return Record(count, "apple", seed, group, counted, dict.fromkeys(counted, 0.8))


RECORDS = [
    record(0, plain=7, token=7),
    record(1, plain=6, token=7),
    record(2, plain=6, token=8),
    record(3, group="unseen", plain=7, token=7),
]


def test_objects_are_learned_or_unseen_and_never_both():
    assert not set(tokens.LEARNED) & set(tokens.UNSEEN)
    assert len(tokens.LEARNED) + len(tokens.UNSEEN) == 24


def test_tables_say_what_the_records_say():
    said = tokens.report(RECORDS)
    learned, unseen = said.split("never learned on")
    assert "| objects | n | plain | token |" in learned
    assert "| 7 | 3 | 33 [" in learned
    assert "+33.3 points, 1 won, 0 lost of 3" in learned
    assert "mean error 0.33 against 0.67; the judge's confidence 100 %" in learned
    assert "| 7 | 1 | 100 [" in unseen


def test_records_of_one_case_are_one_record(tmp_path):
    path = tmp_path / "records.jsonl"
    lines = [record(0, plain=7), record(1, plain=6), record(0, token=8)]
    path.write_text("".join(json.dumps(asdict(line)) + "\n" for line in lines))
    merged = tokens.read(path)
    assert [r.counted for r in merged] == [{"plain": 7, "token": 8}, {"plain": 6}]
    assert tokens.read(tmp_path / "absent.jsonl") == []


def test_learn_measure_and_stamp_at_small_scale(models, tmp_path, monkeypatch):
    folder = tmp_path / "miniature"
    monkeypatch.setattr("countgen.token_library.FOLDER", tmp_path)
    tokens.learn(
        models,
        [3],
        folder,
        replace(tokens.SETTINGS, validation_pictures=2, teacher_steps=1, objects_per_step=1, initial_tries=1),
    )
    records = list(tokens.measure(models, [3], 1, ["plain", "token"], []))
    assert [(r.group, r.object_name) for r in records] == [
        ("learned", tokens.LEARNED[0]),
        ("unseen", tokens.UNSEEN[0]),
    ]
    assert list(tokens.measure(models, [3], 1, ["plain", "token"], records)) == []
    tokens.stamp(records, folder)
    right = sum(r.counted["token"] == 3 for r in records)
    assert find_token("count-3", "miniature").accuracy == right / 2


def test_judged_counts_as_the_judge_does(models):
    backbone = models.backbone
    with torch.no_grad():
        images = backbone.render(backbone.initial_latents([0, 1]), backbone.encode_prompt("four cats"))
    found = tokens.judged(models.judge, images, "cat")
    assert [number for number, _ in found] == models.judge.counts(images, ["cat"])[:, 0].tolist()
    assert all(models.judge.threshold < sure <= 1 for number, sure in found if number)


def test_agreement_of_equal_directions_is_one_and_of_random_ones_near_zero():
    generator = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(200, 64, generator=generator), dim=1)
    mean, spread = token_oracle.agreement(rows)
    assert abs(mean) < 4 * spread
    assert token_oracle.agreement(rows[:1].expand(10, -1))[0] == pytest.approx(1, abs=1e-5)


def test_a_gradient_is_a_direction(models):
    direction = token_oracle.gradient(models, Target("apple", 5), 3)
    assert direction.shape == (256,)
    assert float(direction.norm()) == pytest.approx(1, abs=1e-4)


def test_what_is_shipped_is_small_and_of_its_backbone():
    files = list(FOLDER.rglob("*.safetensors"))
    assert sum(path.stat().st_size for path in files) < 300 * 1024
    for folder in {path.parent for path in files}:
        shipped = available_tokens(folder.name)
        assert {token.base_model for token in shipped.values()} == {folder.name}
        assert list(shipped) == [f"count-{token.target_count}" for token in shipped.values()]


def test_every_shipped_token_is_learned_on_what_the_benchmark_calls_learned():
    for token in available_tokens("miniature").values():
        assert token.object_names == tokens.LEARNED
        assert token.config_hash == tokens.SETTINGS.config_hash
        assert token.accuracy is not None
