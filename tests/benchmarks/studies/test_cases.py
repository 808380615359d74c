"""Cases are what they say, and the studies that run them print their tables."""

import pytest

from benchmarks.studies import faithfulness, readme_image, tuning
from benchmarks.studies.cases import SEEDS, one_class
from countgen.prompts import parse


def test_cases_say_in_words_what_their_targets_say():
    for case in one_class(range(1, 16), 5, "tuning"):
        assert parse(case.prompt) == case.targets


def test_tuning_and_reporting_share_no_seed_and_every_case_has_one_of_its_own():
    seeds = {purpose: [case.seed for case in one_class(range(1, 16), 30, purpose)] for purpose in SEEDS}
    assert not set(seeds["tuning"]) & set(seeds["reporting"])
    assert all(len(set(mine)) == len(mine) for mine in seeds.values())


@pytest.mark.slow
def test_tuning_prints_one_line_a_setting(capsys):
    assert tuning.main(["batch", "--counts", "2-2", "--pairs", "1", "--evaluations", "4", "--threads", "1"]) == 0
    assert capsys.readouterr().out.count("| first ") == len(tuning.SWEEPS["batch"])


def test_tuning_refuses_an_unknown_sweep(capsys):
    with pytest.raises(SystemExit):
        tuning.main(["colour"])
    assert "available: loss" in capsys.readouterr().err


@pytest.mark.slow
def test_faithfulness_prints_every_loss(capsys):
    assert faithfulness.main(["--counts", "2-2", "--pairs", "1", "--threads", "1"]) == 0
    printed = capsys.readouterr().out
    assert all(f"| {loss} |" in printed for loss in ("l1", "d2d", "margin"))


@pytest.mark.slow
def test_the_readmes_image_shows_before_and_after(tmp_path, monkeypatch):
    monkeypatch.setattr(readme_image, "PROMPTS", ("a photo of two apples",))
    assert readme_image.main(["--out", str(tmp_path / "sheet.png")]) == 0
    assert (tmp_path / "sheet.png").stat().st_size > 1000
